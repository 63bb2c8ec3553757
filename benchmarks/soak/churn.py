"""Hostile agents that start and stop, readers that come and go, and strangers with odd requests, for some minutes."""

import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import httpx

from benchmarks.servers import TOKEN
from benchmarks.soak.agent import ANSWERS, ENDLESS
from benchmarks.soak.site import HOSTILE, SECONDS, Sample, Site

READERS, CALLERS = 8, 4
SAMPLES = 40
WORKS = [*ANSWERS, *ENDLESS, "exit", "slow"]
ODD = [
    b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b'GET /agents/ HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: sessionid="a\\000b"\r\n\r\n',
    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nDaphne-Root-Path: /x\r\n\r\n",
    b"POST /accounts/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"\0\r\n\r\n",
]

Part = Callable[[Site, random.Random], None]


def dispatch(site: Site, random: random.Random) -> None:
    """Give one agent some work. Every status is right for some work, except 500 and 401."""
    work, name = random.choice(WORKS), random.choice(HOSTILE)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    timeout = 0.5 if random.random() < 0.2 else SECONDS  # some hang up
    with suppress(httpx.HTTPError):
        url = f"{site.server.url}/api/instances/{name}/dispatch"
        answer = httpx.post(url, content=work, headers=headers, timeout=timeout)
        own_error = answer.status_code in (401, 403, 404, 500) and work != "forged line"
        site.note(f"dispatch of {work!r}", str(answer.status_code) if own_error else "")


def read(site: Site, random: random.Random) -> None:
    """Read the stream for up to 3 s, and hang up."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    ends = time.monotonic() + random.random() * 3
    with (
        suppress(httpx.HTTPError),
        httpx.stream("GET", f"{site.server.url}/events", headers=headers, timeout=2) as answer,
    ):
        site.note("/events", "" if answer.is_success else str(answer.status_code))
        for _ in answer.iter_bytes():
            if time.monotonic() > ends:
                break


def be_odd(site: Site, random: random.Random) -> None:
    """Send an odd request. Nothing but a 4xx or a redirect is right, or that the connection is closed."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", site.server.port), SECONDS) as connection:
        connection.sendall(random.choice(ODD))
        connection.shutdown(socket.SHUT_WR)
        status = connection.recv(100).split(b" ")[1:2]
        site.note("odd request", status[0].decode() if status and status[0][:1] == b"5" else "")
    time.sleep(0.2)


def run(site: Site, seconds: float) -> None:
    """Make the churn, and print the slopes of what the process uses."""
    ended = threading.Event()
    parts: list[Part] = [*[dispatch] * CALLERS, *[read] * READERS, be_odd]
    threads = [threading.Thread(target=_go_on, args=(part, site, ended, seed)) for seed, part in enumerate(parts)]
    for thread in threads:
        thread.start()
    samples, began = [], time.monotonic()
    print(f"\n{seconds / 60:.1f} min of hostile agents, {READERS} readers, {CALLERS} callers and odd requests:")
    for _ in range(SAMPLES):
        time.sleep(seconds / SAMPLES)
        samples.append(site.sample())
        if len(samples) % 10 == 0:
            print_sample(samples[-1], began)
    ended.set()
    for thread in threads:
        thread.join(SECONDS)
    print_slopes(samples[SAMPLES // 4 :])  # the first quarter fills caches and pools


def print_sample(sample: Sample, began: float) -> None:
    used = f"{sample.memory_mb:.0f} MB, {sample.threads} threads, {sample.descriptors} descriptors"
    print(f"  after {(sample.at - began) / 60:.1f} min: {used}", flush=True)


def _go_on(part: Part, site: Site, ended: threading.Event, seed: int) -> None:
    chosen = random.Random(seed)
    while not ended.is_set():
        part(site, chosen)


def print_slopes(samples: list[Sample]) -> None:
    minutes = [sample.at / 60 for sample in samples]
    for name, unit in (("memory_mb", "MB"), ("threads", ""), ("descriptors", "")):
        values = [float(getattr(sample, name)) for sample in samples]
        per_minute = slope(minutes, values)
        label = name.removesuffix("_mb")
        print(f"  {label}: {values[0]:.0f} to {values[-1]:.0f} {unit}, {per_minute:+.3f} a minute by least squares")


def slope(x: list[float], y: list[float]) -> float:
    """Return the slope of the straight line that fits best."""
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((one - middle_x) * (two - middle_y) for one, two in zip(x, y, strict=True))
    return over / sum((one - middle_x) ** 2 for one in x)
