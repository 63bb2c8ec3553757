"""From one process's commit to a reader of another."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.crowd import Crowd
from tests.benchmarks.databases import postgresql
from tests.benchmarks.report import Section, Table, median, number, percentile
from tests.benchmarks.serving import Publisher, dormouse, events_request

ABOUT = """\
One process records {events} events, each in a transaction of its own, with a pause between; one reader is connected to
a web process. From the return of the commit in the one to the byte read from the other; below zero where the reader
had the event before the writer's call returned."""


def run(folder: Path, quick: bool) -> Section:
    events = 50 if quick else 500
    rows, notes = [], []
    for name, database in (("SQLite", sqlite), ("PostgreSQL", postgresql)):
        with database(folder) as (url, why_not):
            if why_not:
                notes.append(f"{name} was not measured: {why_not}")
            else:
                rows.append([name, *measure(folder, url, events)])
    head = ["", "p50", "p99", "most", "lost", "repeated"]
    return Section("From another process", " ".join([ABOUT.format(events=events), *notes]), {"": Table(head, rows)})


@contextmanager
def sqlite(folder: Path) -> Iterator[tuple[str, str]]:
    yield f"sqlite:///{folder}/across.db", ""


def measure(folder: Path, database_url: str, events: int) -> list[str]:
    with dormouse(folder, database_url) as (server, environment), Publisher(environment) as publisher, Crowd() as crowd:
        crowd.connect(server.port, events_request(), 1)
        publisher.publish(0, 1)
        crowd.expect(1, events)
        returned = publisher.publish(1, events, pause_seconds=0.013)
        found = crowd.settle()
    late_ms = [
        (found.first_ns[1 + index] - at) / 1e6 for index, at in enumerate(returned) if 1 + index in found.first_ns
    ]
    times = [median(late_ms), percentile(late_ms, 99), max(late_ms)]
    return [*(f"{number(ms)} ms" for ms in times), str(found.lost), str(found.repeated)]
