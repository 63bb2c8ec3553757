"""One agent's container, watched from outside, and dispatches to it through Dormouse."""

import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime

import httpx
from docker import APIClient

from benchmarks.servers import TOKEN

SECONDS = 60
PAUSE_SECONDS = 0.0005
LATEST_START = """
SELECT at FROM event_log WHERE instance = ? AND type = 'container.lazy_started' ORDER BY id DESC LIMIT 1
"""
#: What the reconciler does when it finds an instance stopped.
FALL_ASLEEP = "UPDATE lifecycle_instance SET state = 'asleep', probed = 0, version = version + 1 WHERE name = ?"


class Watch(threading.Thread):
    """A thread that asks the agent in a tight loop until it answers, from the engine's start event on.

    It does not ask before, because Docker's proxy then tries a network that is not up yet, and every connection waits a
    second for the next ARP request. A connection alone is not enough, because the proxy accepts one without an agent.
    """

    def __init__(self, starts: Iterator[object], port: int) -> None:
        super().__init__(daemon=True)
        self._starts, self._address = starts, ("127.0.0.1", port)
        self._found = 0

    def run(self) -> None:
        next(self._starts)
        end = time.monotonic() + SECONDS
        while not self._found and time.monotonic() < end:
            with suppress(OSError), socket.create_connection(self._address, 1) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if connection.recv(1):
                    self._found = time.monotonic_ns()
            time.sleep(PAUSE_SECONDS)

    def ready_ns(self) -> int:
        self.join()
        assert self._found, "the agent never answered"
        return self._found


class Agent:
    """A container that is stopped, between two measurements."""

    def __init__(self, api: APIClient, name: str, port: int) -> None:
        self._api, self.name, self._port = api, name, port
        self.url = f"http://127.0.0.1:{port}/"

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        starts = self._api.events(filters={"container": self.name, "event": "start"}, decode=True)
        with closing(starts):
            watch = Watch(starts, self._port)
            watch.start()
            yield watch
            watch.join()

    def start(self) -> int:
        """Start the container, and return when the call began, in monotonic ns."""
        began = time.monotonic_ns()
        self._api.start(self.name)
        return began

    def pause(self) -> None:
        self._api.pause(self.name)

    def resume(self) -> None:
        self._api.unpause(self.name)

    def kill(self) -> None:
        self._api.kill(self.name)
        self._api.wait(self.name)


class Waker:
    """A client that dispatches through Dormouse, and reads Dormouse's database."""

    def __init__(self, url: str, database: sqlite3.Connection) -> None:
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=SECONDS)
        self._database = database

    def dispatch(self, name: str) -> None:
        answer = self._client.post(f"/api/instances/{name}/dispatch", content=b"work")
        assert answer.status_code == 200, answer.text

    def wake(self, name: str) -> tuple[int, int]:
        """Dispatch, and return when that began and when Dormouse saw the agent ready, in monotonic ns."""
        to_monotonic = time.monotonic_ns() - time.time_ns()
        began = time.monotonic_ns()
        self.dispatch(name)
        (at,) = self._database.execute(LATEST_START, [name]).fetchone()
        seen = datetime.fromisoformat(at).replace(tzinfo=UTC)
        return began, int(seen.timestamp() * 1e9) + to_monotonic

    def put_to_sleep(self, name: str) -> None:
        self._database.execute(FALL_ASLEEP, [name])


def resumed_ms(agent: Agent, waker: Waker, times: int) -> tuple[list[float], list[float]]:
    """Return how long a paused agent takes to answer: after an `unpause` by hand, and to a dispatch, in ms."""
    waker.dispatch(agent.name)
    by_hand: list[float] = []
    dispatched: list[float] = []
    with httpx.Client(timeout=SECONDS) as client:
        for _ in range(times):
            agent.pause()
            began = time.perf_counter()
            agent.resume()
            client.post(f"{agent.url}cgi-bin/at-once", content=b"work").raise_for_status()
            by_hand.append((time.perf_counter() - began) * 1000)
            agent.pause()
            waker.put_to_sleep(agent.name)
            began = time.perf_counter()
            waker.dispatch(agent.name)
            dispatched.append((time.perf_counter() - began) * 1000)
    return by_hand, dispatched


def added_ms(agent: Agent, waker: Waker, times: int) -> tuple[list[float], list[float]]:
    """Return how long the same request takes to the agent itself, and as a dispatch, in ms."""
    waker.dispatch(agent.name)
    direct: list[float] = []
    dispatched: list[float] = []
    with httpx.Client(timeout=SECONDS) as client:
        for _ in range(times):
            began = time.perf_counter()
            client.post(f"{agent.url}cgi-bin/at-once", content=b"work").raise_for_status()
            between = time.perf_counter()
            waker.dispatch(agent.name)
            direct.append((between - began) * 1000)
            dispatched.append((time.perf_counter() - between) * 1000)
    return direct, dispatched
