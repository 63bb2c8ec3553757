"""From one process's commit to a reader of another."""

from pathlib import Path

from tests.benchmarks.crowd import Crowd
from tests.benchmarks.databases import postgresql
from tests.benchmarks.report import Section, Table, median, number, percentile
from tests.benchmarks.serving import Publisher, dormouse, events_request

ABOUT = """\
One process records {events} events, each in a transaction of its own, with a pause between; one reader is connected to
a web process. From the return of the commit in the one to the byte read from the other; below zero where the reader
had the event before the writer's call returned."""
POSTGRESQL = "\n\nPostgreSQL is a cluster of the tests', without fsync: what a commit takes is not in these times."
NO_POSTGRESQL = "\n\nPostgreSQL was not measured: it is not installed (apt-get install postgresql)."


def run(folder: Path, quick: bool) -> Section:
    events = 50 if quick else 500
    rows = [["SQLite", *measure(folder, f"sqlite:///{folder}/across.db", events)]]
    with postgresql() as url:
        if url:
            rows.append(["PostgreSQL", *measure(folder, url, events)])
    about = ABOUT.format(events=events) + (POSTGRESQL if len(rows) > 1 else NO_POSTGRESQL)
    return Section("From another process", about, {"": Table(["", "p50", "p99", "most", "lost", "repeated"], rows)})


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
