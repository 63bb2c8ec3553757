"""What readers that stop reading cost, and whether the other readers are slowed down."""

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.crowd import Crowd, Deliveries
from benchmarks.report import Section, Table, number, percentile, ratio
from benchmarks.servers import Publisher, WebServer, dormouse, events_request

FILLER_BYTES = 60_000
OTHERS = 10

ABOUT = """\
While {megabytes} MB of events go out to {others} readers, {stalled} more stop reading after the opening message; beside
it the same with {stalled} more that read, and with none, each on a new server. The memory of a stalled reader is what
the server grew by more than with none, divided by their number. Then they read on, and come back with their cursors
until they have everything. The others' delay is from just before the recording to the byte; it holds their coming back
too, for a connection ends after 4 MB. The ratio is that of the stalled to those that read."""


@dataclass(frozen=True)
class Outcome:
    grown_bytes: int
    others: Deliveries
    not_read: int
    missing: int
    seconds: float


def run(folder: Path, quick: bool) -> Section:
    stalled, megabytes = (10, 6) if quick else (50, 20)
    alone = measure(folder, 0, megabytes)
    reading = measure(folder, stalled, megabytes)
    beside = measure(folder, stalled, megabytes, stall=True)
    outcomes = [alone, reading, beside]
    each = (beside.grown_bytes - alone.grown_bytes) / stalled / 1024**2
    rows = [
        ["memory the server grew by", *(f"{number(one.grown_bytes / 1024**2)} MB" for one in outcomes), ""],
        ["memory of each stalled reader", "", "", f"{number(each)} MB", ""],
        delay("the others' delay, p50", 50, outcomes),
        delay("the others' delay, p99", 99, outcomes),
        ["lost by the others", *(str(one.others.lost) for one in outcomes), ""],
        ["repeated to the others", *(str(one.others.repeated) for one in outcomes), ""],
        ["events the stalled had not read, in all", "", "", f"{beside.not_read:,}", ""],
        ["of these lost when they read on", "", "", f"{beside.missing:,}", ""],
        ["time until they had all", "", "", f"{number(beside.seconds)} s", ""],
    ]
    about = ABOUT.format(stalled=stalled, others=OTHERS, megabytes=megabytes)
    head = ["", f"{OTHERS} readers", f"and {stalled} that read", f"and {stalled} stalled", "ratio"]
    return Section("Stalled readers", about, {"": Table(head, rows)})


def delay(what: str, percent: float, outcomes: list[Outcome]) -> list[str]:
    found = [percentile(one.others.latencies_ns, percent) / 1e6 for one in outcomes]
    return [what, *(f"{number(ms)} ms" for ms in found), ratio(found[2], found[1])]


def measure(folder: Path, more: int, megabytes: int, stall: bool = False) -> Outcome:
    with dormouse(folder) as (server, environment), Publisher(environment) as publisher, Crowd() as crowd:
        crowd.connect(server.port, events_request(), OTHERS, "others")
        publisher.publish(0, 1)
        before = server.cost.rss_bytes
        crowd.connect(server.port, events_request(), more, "more", receive_bytes=4096 if stall else 0)
        if stall:
            crowd.pause("more")
        return go_on(server, publisher, crowd, megabytes * 1_000_000 // FILLER_BYTES, before)


def go_on(server: WebServer, publisher: Publisher, crowd: Crowd, events: int, before: int) -> Outcome:
    crowd.expect(1, events, "others")
    publisher.publish(1, events, FILLER_BYTES, pause_seconds=0.01)
    others = crowd.settle()
    grown_bytes = server.cost.rss_bytes - before
    not_read = crowd.missing(1, events, "more")
    began = time.monotonic()
    crowd.resume("more")
    while (missing := crowd.missing(1, events, "more")) and time.monotonic() - began < 60:
        time.sleep(0.05)
    return Outcome(grown_bytes, others, not_read, missing, time.monotonic() - began)
