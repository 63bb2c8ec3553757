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
from functools import partial
from typing import Any

import httpx

from benchmarks.soak.site import Sample, Site, medians

HOST = "127.0.0.1"
IDLE_ROUNDS = 100
#: How long memory may take to come back, before it is measured.
CALM_SECONDS = 5
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


def run(site: Site, asked: argparse.Namespace) -> None:
    """Measure without strangers, and then beside each load."""
    medians(site, 10)  # wakes the agent
    dispatch_ms, healthz_ms = medians(site, IDLE_ROUNDS)
    print(f"\nwithout strangers: dispatch {dispatch_ms:.1f} ms, healthz {healthz_ms:.1f} ms")
    loads: dict[str, Load] = {
        f"{asked.strangers} forms of {asked.megabytes} MB": partial(send_forms, asked.strangers, asked.megabytes),
        f"{asked.strangers} wrong logins": partial(sign_in, asked.strangers),
        f"{asked.held} idle or half-sent requests": partial(hold, asked.held),
    }
    for name, load in loads.items():
        before = site.sample()
        measured, samples, counts = beside(site, load, asked.seconds)
        time.sleep(CALM_SECONDS)
        report(name, measured, (dispatch_ms, healthz_ms))
        report_cost(before, samples, site.sample())
        print(f"  strangers saw: {', '.join(f'{count} {what}' for what, count in counts.most_common())}", flush=True)


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


def report(name: str, measured: list[tuple[float, float]], idle: tuple[float, float]) -> None:
    print(f"\nbeside {name} ({len(measured)} of each measured):")
    for what, values, alone in zip(("dispatch", "healthz"), zip(*measured, strict=True), idle, strict=True):
        median = statistics.median(values)
        print(f"  {what}: median {median:.1f} ms, {median / alone:.1f} times; longest {max(values):.0f} ms")


def report_cost(before: Sample, during: list[Sample], after: Sample) -> None:
    most = max(sample.memory_mb for sample in during)
    grown, stays = most - before.memory_mb, after.memory_mb - before.memory_mb
    print(f"  memory: grew by {grown:.0f} MB from {before.memory_mb:.0f}, of which {stays:.0f} stay")
    print(f"  threads: {before.threads}, most {max(sample.threads for sample in during)}, then {after.threads}")
    print(f"  descriptors: {before.descriptors}, most {max(s.descriptors for s in during)}, then {after.descriptors}")
