"""Three loads of strangers without an account: large forms, wrong logins, and connections that are only held."""

import argparse
import asyncio
import collections
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

from benchmarks.soak.site import Sample, Site, medians

HOST = "127.0.0.1"
IDLE_ROUNDS = 60
FIRST_SECONDS = 2
HALVES = [
    b"",
    b"GET /agents/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-",
    b"POST /accounts/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\n",
]

Counts = collections.Counter[str]
Load = Callable[[int, float], Coroutine[Any, Any, Counts]]


async def send_forms(count: int, megabytes: int, port: int, seconds: float) -> Counts:
    """Post a large form again and again, as `count` strangers."""
    found = Counts()
    head = f"POST /accounts/login/ HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {megabytes * 1_000_000}\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\n\r\n"

    async def send() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        with suppress(OSError):
            writer.write(head.encode())
            for _ in range(megabytes * 10):
                writer.write(b"a&" * 50_000)
                await writer.drain()
        try:
            found[(await reader.read(100)).split(b"\r\n")[0].decode() or "closed"] += 1
        except OSError:  # the server cuts a refused caller that goes on sending
            found["connection cut"] += 1
        writer.close()

    await _repeat(count, seconds, send, found)
    return found


async def sign_in(count: int, port: int, seconds: float) -> Counts:
    """Try wrong passwords again and again, as `count` strangers with a name each."""
    found = Counts()
    names = iter(range(1_000_000))

    async def try_once() -> None:
        # Plain HTTP: without verify=False each client would make a TLS context, which takes 20 ms.
        async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=seconds, verify=False) as client:
            await client.get("/accounts/login/")
            form = {"username": f"stranger-{next(names)}", "password": "wrong"}
            form["csrfmiddlewaretoken"] = client.cookies["csrftoken"]
            found[str((await client.post("/accounts/login/", data=form)).status_code)] += 1

    await _repeat(count, seconds, try_once, found)
    return found


async def hold(count: int, port: int, seconds: float) -> Counts:
    """Hold `count` connections that are idle or have sent half a request, and trickle a byte a second into each."""
    found = Counts()

    async def hold_one(number: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(HALVES[number % len(HALVES)])
        while not reader.at_eof():
            await asyncio.sleep(1)
            if number % len(HALVES):
                writer.write(b"x")
        found["closed by the server"] += 1
        writer.close()

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*map(hold_one, range(count)), return_exceptions=True)
    found["held"] = count - found["closed by the server"]
    return found


async def _repeat(count: int, seconds: float, once: Callable[[], Coroutine[Any, Any, None]], found: Counts) -> None:
    async def go_on() -> None:
        while True:
            try:
                await once()
            except (OSError, httpx.HTTPError) as error:
                found[type(error).__name__] += 1

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(go_on() for _ in range(count)))


def attend(load: Load, port: int, seconds: float, results: Any) -> None:
    """Make the load, with what the server leaves of the processors: real strangers have their own."""
    os.nice(10)
    results.put(asyncio.run(load(port, seconds)))


@dataclass(frozen=True)
class Round:
    """Hold what was measured without strangers, and then beside a load of them."""

    #: A warm dispatch and a health check, in ms, without strangers.
    idle_ms: tuple[float, float]
    idle_cpu: float
    #: The same beside the load, each time that it was measured.
    beside_ms: list[tuple[float, float]]
    beside_cpu: float
    #: While the load was there, and when the process was calm again.
    during: list[Sample]
    after: Sample
    counts: Counts

    def medians_ms(self) -> tuple[float, float]:
        dispatches, checks = zip(*self.beside_ms, strict=True)
        return statistics.median(dispatches), statistics.median(checks)


def run(site: Site, asked: argparse.Namespace) -> None:
    """Measure each load in several rounds, each beside the same process without strangers just before it.

    Other programs of the machine slow both parts of a round, so a ratio is taken inside a round. One stranger comes
    before, because the code that a first request loads stays.
    """
    medians(site, 10)  # wakes the agent
    loads: dict[str, tuple[int, Callable[[int], Load]]] = {
        f"forms of {asked.megabytes} MB": (asked.strangers, lambda count: partial(send_forms, count, asked.megabytes)),
        "wrong logins": (asked.strangers, lambda count: partial(sign_in, count)),
        "idle or half-sent requests": (asked.held, lambda count: partial(hold, count)),
    }
    for name, (count, load_of) in loads.items():
        beside(site, load_of(1), FIRST_SECONDS)
        before, load = site.sample_when_calm(), load_of(count)
        rounds = [measure(site, load, asked.seconds) for _ in range(asked.rounds)]
        report(f"{count} {name}", before, rounds)


def measure(site: Site, load: Load, seconds: float) -> Round:
    """Measure one round."""
    began = site.sample()
    idle_ms = medians(site, IDLE_ROUNDS)
    loaded = site.sample()
    beside_ms, during, counts = beside(site, load, seconds)
    ended = site.sample()
    after = site.sample_when_calm()
    return Round(idle_ms, cpu_share(began, loaded), beside_ms, cpu_share(loaded, ended), during, after, counts)


def cpu_share(first: Sample, last: Sample) -> float:
    """Return how much of one processor the web process used between two samples."""
    return (last.cpu_seconds - first.cpu_seconds) / (last.at - first.at)


def beside(site: Site, load: Load, seconds: float) -> tuple[list[tuple[float, float]], list[Sample], Counts]:
    """Measure while a process of its own makes the load."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=attend, args=(load, site.server.port, seconds, results))
    process.start()
    measured, samples = [], []
    while process.is_alive() and results.empty():
        measured.append((site.dispatch_ms(), site.healthz_ms()))
        samples.append(site.sample())
        time.sleep(0.02)
    counts = results.get(timeout=60)
    process.join()
    return measured, samples, counts


def report(name: str, before: Sample, rounds: list[Round]) -> None:
    print(f"\nbeside {name}, {len(rounds)} rounds:")
    for place, what in enumerate(("dispatch", "healthz")):
        pairs = [(one.idle_ms[place], one.medians_ms()[place]) for one in rounds]
        times = [beside_ms / idle_ms for idle_ms, beside_ms in pairs]
        longest = max(measured[place] for one in rounds for measured in one.beside_ms)
        shown = ", ".join(f"{idle_ms:.1f} -> {beside_ms:.1f}" for idle_ms, beside_ms in pairs)
        print(f"  {what}: medians in ms {shown}: {statistics.median(times):.1f} times; longest {longest:.0f} ms")
    shown = ", ".join(f"{one.idle_cpu:.2f} -> {one.beside_cpu:.2f}" for one in rounds)
    print(f"  processors that the web process used: {shown}")
    report_cost(before, rounds)
    counts = sum((one.counts for one in rounds), Counts())
    print(f"  strangers saw: {', '.join(f'{count} {what}' for what, count in counts.most_common())}", flush=True)


def report_cost(before: Sample, rounds: list[Round]) -> None:
    """Print what was used before, at most, and after each round, so that a plateau can be told from growth."""
    for name, unit in (("memory_mb", " MB"), ("threads", ""), ("descriptors", "")):
        most = max(getattr(sample, name) for one in rounds for sample in one.during)
        after = ", ".join(f"{getattr(one.after, name):.0f}" for one in rounds)
        label = name.removesuffix("_mb")
        print(f"  {label}: {getattr(before, name):.0f}{unit}, at most {most:.0f}, after each round {after}")
