"""Readers that stop reading: what they cost, and whether the others notice."""

import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.crowd import Crowd, Deliveries
from tests.benchmarks.report import Section, Table, number, percentile, ratio
from tests.benchmarks.serving import Daphne, Publisher, dormouse, events_request

FILLER_BYTES = 60_000
OTHERS = 10

ABOUT = """\
{stalled} readers stop reading after the opening message and {others} read on, while {megabytes} MB of events go out;
beside it the same without the stalled ones, on a new server. The memory of a stalled reader is what the server grew by
more than without them, divided by their number. Then they read on, and come back with their cursors until they have
everything. The others' delay is from just before the recording to the byte; it holds their coming back too, for a
connection ends after 4 MB."""


@dataclass(frozen=True)
class Outcome:
    grown_bytes: int
    others: Deliveries
    not_read: int
    missing: int
    seconds: float


def run(folder: Path, quick: bool) -> Section:
    stalled, megabytes = (10, 6) if quick else (50, 20)
    without, beside = measure(folder, 0, megabytes), measure(folder, stalled, megabytes)
    each = (beside.grown_bytes - without.grown_bytes) / stalled / 1024**2
    rows = [
        ["memory the server grew by", *(f"{number(one.grown_bytes / 1024**2)} MB" for one in (without, beside)), ""],
        ["memory of each stalled reader", "", f"{number(each)} MB", ""],
        delay("the others' delay, p50", 50, without, beside),
        delay("the others' delay, p99", 99, without, beside),
        ["lost by the others", str(without.others.lost), str(beside.others.lost), ""],
        ["repeated to the others", str(without.others.repeated), str(beside.others.repeated), ""],
        ["events the stalled had not read, in all", "", f"{beside.not_read:,}", ""],
        ["of these lost when they read on", "", f"{beside.missing:,}", ""],
        ["time until they had all", "", f"{number(beside.seconds)} s", ""],
    ]
    about = ABOUT.format(stalled=stalled, others=OTHERS, megabytes=megabytes)
    table = Table(["", "without", f"with {stalled} stalled", "ratio"], rows)
    return Section("Stalled readers", about, {"": table})


def delay(what: str, percent: float, without: Outcome, beside: Outcome) -> list[str]:
    found = [percentile(one.others.latencies_ns, percent) / 1e6 for one in (without, beside)]
    return [what, *(f"{number(ms)} ms" for ms in found), ratio(found[1], found[0])]


def measure(folder: Path, stalled: int, megabytes: int) -> Outcome:
    with dormouse(folder) as (server, environment), Publisher(environment) as publisher, Crowd() as crowd:
        crowd.connect(server.port, events_request(), OTHERS, "others")
        publisher.publish(0, 1)
        before = server.cost.rss_bytes
        crowd.connect(server.port, events_request(), stalled, "stalled", receive_bytes=4096)
        crowd.pause("stalled")
        return go_on(server, publisher, crowd, megabytes * 1_000_000 // FILLER_BYTES, before)


def go_on(server: Daphne, publisher: Publisher, crowd: Crowd, events: int, before: int) -> Outcome:
    crowd.expect(1, events, "others")
    publisher.publish(1, events, FILLER_BYTES, pause_seconds=0.01)
    others = crowd.settle()
    grown_bytes = server.cost.rss_bytes - before
    not_read = crowd.missing(1, events, "stalled")
    began = time.monotonic()
    crowd.resume("stalled")
    while (missing := crowd.missing(1, events, "stalled")) and time.monotonic() - began < 60:
        time.sleep(0.05)
    return Outcome(grown_bytes, others, not_read, missing, time.monotonic() - began)
