"""How long an event takes from the commit in one process to a reader of another process."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from benchmarks.databases import postgresql
from benchmarks.load.crowd import Crowd
from benchmarks.report import Section, Table, median, number, percentile
from benchmarks.servers import Publisher, dormouse, events_request
from tests.postgres.cluster import Cluster
from tests.servers import wait_for

ABOUT = """\
One process records {events} events, each in a transaction of its own, with a pause between; one reader is connected to
a web process. The time is from the return of the commit in the one to the byte read from the other. It is below zero if
the reader had the event before the writer's call returned."""
POSTGRESQL = """

PostgreSQL is a cluster of the tests, without fsync, because these times do not contain the commit. In *LISTEN dead* the
server's side of the listening connection is frozen, as if its machine had disappeared; {few} events."""
NO_POSTGRESQL = "\n\nPostgreSQL was not measured: it is not installed (apt-get install postgresql)."
LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN event_log'"
PAUSE_SECONDS = 0.013
#: Not a divisor of the second after which the log is read in any case.
LONG_PAUSE_SECONDS = 0.37


def run(folder: Path, quick: bool) -> Section:
    events, few = (50, 10) if quick else (500, 60)
    about = ABOUT.format(events=events)
    rows = [["SQLite", *measure(folder, f"sqlite:///{folder}/across.db", events)]]
    with postgresql() as cluster:
        if cluster:
            url = cluster.url("postgres")
            rows.append(["PostgreSQL", *measure(folder, url, events)])
            dead = measure(folder, url, few, LONG_PAUSE_SECONDS, lambda: listener_frozen(cluster))
            rows.append(["PostgreSQL, LISTEN dead", *dead])
        about += POSTGRESQL.format(few=few) if cluster else NO_POSTGRESQL
    return Section("From another process", about, {"": Table(["", "p50", "p99", "most", "lost", "repeated"], rows)})


def measure(
    folder: Path,
    database_url: str,
    events: int,
    pause_seconds: float = PAUSE_SECONDS,
    trouble: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[str]:
    with dormouse(folder, database_url) as (server, environment), Publisher(environment) as publisher, Crowd() as crowd:
        crowd.connect(server.port, events_request(), 1)
        publisher.publish(0, 1)
        crowd.expect(1, events)
        with trouble():
            returned = publisher.publish(1, events, pause_seconds=pause_seconds)
            found = crowd.settle()
    late_ms = [
        (found.first_ns[1 + index] - at) / 1e6 for index, at in enumerate(returned) if 1 + index in found.first_ns
    ]
    times = [median(late_ms), percentile(late_ms, 99), max(late_ms)]
    return [*(f"{number(ms)} ms" for ms in times), str(found.lost), str(found.repeated)]


@contextmanager
def listener_frozen(cluster: Cluster) -> Iterator[None]:
    with cluster.connected() as connection:
        backend = wait_for(lambda: connection.execute(LISTENERS).fetchone())[0]
    os.kill(backend, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(backend, signal.SIGCONT)
