"""Many readers of one stream: the stock view, Dormouse, and a bare application as the limit."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from benchmarks.load.crowd import Crowd, Deliveries
from benchmarks.report import Section, Table, median, number, percentile, ratio
from benchmarks.servers import Publisher, WebServer, dormouse, events_request, manage

BURST = 200
GIVE_UP_SECONDS = 60
WARM_READERS = 10

ABOUT = f"""\
Each server alone, one after the other; the readers are one process with raw sockets on 127.0.0.1.
*Stock* is django-eventstream's view with its `DjangoModelStorage` in an SQLite file of its own, without session or
access check. *Dormouse* is `config.asgi:application` on SQLite, asked with the bearer token. *Bare* is an ASGI
application that writes ready bytes: the limit of daphne, or of uvicorn, on this machine. Stock and bare publish in the
server's own process (a request that calls `send_event` for each event, or appends bytes), because they see no other
events; Dormouse's events come from another process, each in a transaction of its own.

Latency is from just before the publishing call (so with the commit) to the byte read, over all readers. The burst of
{BURST} events lasts from before the first was published until every reader has all, and a delivery counts once; where
not all of it was published after {GIVE_UP_SECONDS} s, it is left there. Lost, repeated and out of order are counted by
the number in each event, at every reader, over all runs. Each ratio is Dormouse's, under the same server, to what is
left of it. The goals with 1,000 readers, beside bare: at most 5 ms more at p50, 1.3x at p99, 1.1x the CPU, and 2x the
time to connect; at most 24 KB of memory for each reader.

Mercure 1.0-alpha with its BoltDB history is not in this run. Once, beside the first version of Dormouse on such a
machine, one event reached 1,000 of its readers after 22 ms at p50 (Dormouse then: 62 ms), a reader took 56 to 85 KB,
and the burst 5.15 s. After a restart of its hub, readers that came back got none of 5,000 events."""

Publish = Callable[[int, int], object]


@dataclass(frozen=True)
class Outcome:
    """One run of one server with so many readers."""

    connect_seconds: float
    reader_bytes: float
    reader_bytes_after: float
    threads: int
    delivery_seconds: float
    one: list[Deliveries]
    burst: Deliveries
    burst_seconds: float
    publish_seconds: float
    gave_up: bool

    @property
    def latencies_ms(self) -> list[float]:
        return [ns / 1e6 for deliveries in self.one for ns in deliveries.latencies_ns]

    @property
    def all(self) -> list[Deliveries]:
        return [*self.one, self.burst]


@contextmanager
def stock(folder: Path) -> Iterator[tuple[WebServer, Publish]]:
    environment = {
        "DJANGO_SETTINGS_MODULE": "benchmarks.compared.stock.settings",
        "STOCK_DATABASE": f"{folder}/stock-{time.monotonic_ns()}.db",
    }
    manage(environment, "migrate", "--verbosity", "0", "--skip-checks")
    with WebServer("benchmarks.compared.stock.asgi:application", environment, folder / "stock.log") as server:
        yield server, asked_to_publish(server)


@contextmanager
def bare(folder: Path, asgi_server: str = "daphne") -> Iterator[tuple[WebServer, Publish]]:
    with WebServer("benchmarks.compared.bare:application", {}, folder / "bare.log", asgi_server) as server:
        yield server, asked_to_publish(server)


@contextmanager
def real(folder: Path, asgi_server: str = "daphne") -> Iterator[tuple[WebServer, Publish]]:
    with (
        dormouse(folder, DORMOUSE_SERVER=asgi_server) as (server, environment),
        Publisher(environment) as publisher,
    ):
        yield server, publisher.publish


def asked_to_publish(server: WebServer) -> Publish:
    def publish(first: int, count: int) -> None:
        query = {"first": first, "count": count}
        httpx.get(f"{server.url}/publish", params=query, timeout=GIVE_UP_SECONDS).raise_for_status()

    return publish


SERVERS: dict[str, Callable[[Path], AbstractContextManager[tuple[WebServer, Publish]]]] = {
    "Dormouse": real,
    "stock": stock,
    "bare": bare,
    "Dormouse, uvicorn": partial(real, asgi_server="uvicorn"),
    "bare, uvicorn": partial(bare, asgi_server="uvicorn"),
}
#: With which of Dormouse's columns the others are compared.
COMPARED = {"stock": "Dormouse", "bare": "Dormouse", "bare, uvicorn": "Dormouse, uvicorn"}


def measure(server: WebServer, publish: Publish, readers: int, events: int) -> Outcome:
    with Crowd() as crowd:
        crowd.connect(server.port, events_request(), WARM_READERS)
        publish(0, 1)
        time.sleep(1)
        before = server.cost.rss_bytes
        connect_seconds = crowd.connect(server.port, events_request(), readers - WARM_READERS)
        time.sleep(2)  # the stock view loses what comes right after its opening message
        connected = server.cost
        one = [one_event(crowd, publish, readers, index + 1) for index in range(events)]
        told = server.cost
        began = time.monotonic_ns()
        crowd.expect(events + 1, BURST)
        gave_up = not is_published(publish, events + 1, BURST)
        published = time.monotonic_ns()
        burst = crowd.settle(calm_seconds=1, seconds=1 if gave_up else GIVE_UP_SECONDS)
        added = readers - WARM_READERS
        return Outcome(
            connect_seconds=connect_seconds * readers / added,
            reader_bytes=(connected.rss_bytes - before) / added,
            reader_bytes_after=(server.cost.rss_bytes - before) / added,
            threads=connected.threads,
            delivery_seconds=(told.cpu_seconds - connected.cpu_seconds) / (readers * events),
            one=one,
            burst=burst,
            burst_seconds=(burst.last_ns - began) / 1e9,
            publish_seconds=(published - began) / 1e9,
            gave_up=gave_up,
        )


def is_published(publish: Publish, first: int, count: int) -> bool:
    """Return False if the server has not answered after GIVE_UP_SECONDS: of a thousand threads one may get no turn."""
    try:
        publish(first, count)
    except httpx.ReadTimeout:
        return False
    return True


def one_event(crowd: Crowd, publish: Publish, readers: int, index: int) -> Deliveries:
    assert crowd.expect(index, 1) == readers
    publish(index, 1)
    return crowd.settle()


def run(folder: Path, quick: bool) -> Section:
    tables = {}
    for readers, rounds, events in ((100, 1, 5),) if quick else ((100, 3, 20), (1000, 2, 20)):
        outcomes: dict[str, list[Outcome]] = {name: [] for name in SERVERS}
        for _ in range(rounds):
            for name, serve in SERVERS.items():
                with serve(folder) as (server, publish):
                    outcomes[name].append(measure(server, publish, readers, events))
        times = f", median of {rounds} runs" if rounds > 1 else ""
        tables[f"{readers:,} readers{times}"] = table(outcomes)
    return Section("The stream", ABOUT, tables)


def table(outcomes: dict[str, list[Outcome]]) -> Table:
    def medians(value: Callable[[Outcome], float]) -> dict[str, float]:
        return {name: median(value(outcome) for outcome in runs) for name, runs in outcomes.items()}

    def of(what: str, value: Callable[[Outcome], float], unit: str = "") -> list[str]:
        found = medians(value)
        return [what, *with_ratios(found, {name: f"{number(one)}{unit}" for name, one in found.items()})]

    def at_least(what: str, value: Callable[[Outcome], float]) -> list[str]:
        """Return a row of seconds of the burst, which may not have ended."""
        found = medians(value)
        marks = {name: "> " * any(run.gave_up for run in runs) for name, runs in outcomes.items()}
        return [what, *with_ratios(found, {name: f"{marks[name]}{number(one)} s" for name, one in found.items()})]

    def counted(what: str, count: Callable[[Deliveries], int]) -> list[str]:
        """Return a row of counts over all runs, of which a median would mean nothing."""
        found = {name: sum(count(one) for run in runs for one in run.all) for name, runs in outcomes.items()}
        return [what, *with_ratios({}, {name: f"{one:,}" for name, one in found.items()})]

    rows = [
        of("time to connect all", lambda one: one.connect_seconds, " s"),
        of("memory per reader, connected", lambda one: one.reader_bytes / 1024, " KB"),
        of("memory per reader, after the burst", lambda one: one.reader_bytes_after / 1024, " KB"),
        of("threads of the server", lambda one: one.threads),
        of("latency of one event, p50", lambda one: percentile(one.latencies_ms, 50), " ms"),
        of("latency of one event, p99", lambda one: percentile(one.latencies_ms, 99), " ms"),
        of("CPU of the server for one delivery", lambda one: one.delivery_seconds * 1e6, " us"),
        at_least(f"burst of {BURST} events", lambda one: one.burst_seconds),
        at_least("of it until all were published", lambda one: one.publish_seconds),
        of("deliveries per second", lambda one: one.burst.arrived / one.burst_seconds),
        counted("deliveries expected, all runs", lambda one: one.expected),
        counted("lost, or not there in time", lambda one: one.lost),
        counted("repeated", lambda one: one.repeated),
        counted("out of order", lambda one: one.disordered),
    ]
    return Table(["", *with_ratios({}, {name: name for name in outcomes}, head="ratio")], rows)


def with_ratios(found: dict[str, float], cells: dict[str, str], head: str = "") -> list[str]:
    """Return the cells, each followed by the ratio of Dormouse's value to it, or by `head`."""
    row = []
    for name, cell in cells.items():
        row.append(cell)
        if name in COMPARED:
            row.append(ratio(found[COMPARED[name]], found[name]) if found else head)
    return row
