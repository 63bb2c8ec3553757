"""SIGTERM and SIGINT end a web process in order, whatever is in flight."""

import contextlib
import os
import signal
import socket
import sqlite3
import threading
import time

import httpx
import pytest
from django.db import connection

from lifecycle.models import Instance, Lease, Worker
from tests.config.agents import agents_file
from tests.servers import wait_for

pytestmark = pytest.mark.both_servers

ROUNDS = 50 if os.environ.get("DORMOUSE_LONG") else 2
#: END_SECONDS and CLEAN_UP_SECONDS of config.serving.daphne, and time for a busy machine.
BOUND_SECONDS = 30


@pytest.fixture(autouse=True)
def sigint_is_not_ignored():
    """A shell lets a background command ignore SIGINT, and the command's children, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def server(sigint_is_not_ignored, serve, tmp_path):
    """Start a web process with two agents that work for a minute; one of them takes a minute to start, too."""
    with agents_file(tmp_path, starts="-c 'import time; time.sleep(60)'") as environment:
        yield serve(**environment, DORMOUSE_SUPERVISOR="embedded")


class InFlight:
    """Requests that are in flight when the server is told to end."""

    def __init__(self, server):
        self.server = server
        self.streams: list[str] = []
        self.threads: list[threading.Thread] = []

    def begin(self, work, count=1):
        for _ in range(count):
            self.threads.append(threading.Thread(target=work, daemon=True))
            self.threads[-1].start()

    def dispatch(self, name, work=b"60"):
        with contextlib.suppress(httpx.HTTPError):
            address = f"{self.server.url}/api/instances/{name}/dispatch"
            httpx.post(address, content=work, headers=self.server.bearer, timeout=120)

    def read(self):
        body, is_open = "", False
        with httpx.stream("GET", f"{self.server.url}/events", headers=self.server.bearer, timeout=120) as answer:
            for part in answer.iter_text():
                body += part
                if "stream-open" in body and not is_open:
                    is_open = True
                    self.streams.append("open")
        self.streams.append(body)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("locked", [False, True], ids=["free database", "locked database"])
def test_a_signal_ends_everything_in_order(server, number, locked):
    for _ in range(ROUNDS):
        flight = InFlight(server)
        flight.begin(lambda flight=flight: flight.dispatch("works"), 3)
        flight.begin(lambda flight=flight: flight.dispatch("starts"))
        flight.begin(flight.read, 8)
        wait_for(lambda: Lease.objects.count_works() == 3, what="three pieces of work")
        wait_for(lambda flight=flight: flight.streams.count("open") >= 8, what="eight readers")
        with lock() if locked else contextlib.nullcontext():
            began = time.monotonic()
            server.process.send_signal(number)
            assert server.process.wait(BOUND_SECONDS) == 0, server.log.read_text()
            assert time.monotonic() - began < BOUND_SECONDS
        for thread in flight.threads:
            thread.join(BOUND_SECONDS)
        bodies = [body for body in flight.streams if body != "open"]
        assert [body.count('"reason": "shutdown"') for body in bodies] == [1] * 8
        assert "Traceback" not in server.log.read_text()
        if not locked:
            assert (Lease.objects.count(), Worker.objects.count()) == (0, 0), server.log.read_text()
        server.start().wait_until_up()
        wait_for(lambda: Lease.objects.count() == 0, what="the leases to end")


@contextlib.contextmanager
def lock():
    """Hold the write lock of the database, as another program may for a minute."""
    if connection.vendor != "sqlite":
        yield
        return
    holder = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, timeout=20)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def test_a_second_signal_ends_it_at_once(server):
    flight = InFlight(server)
    flight.begin(lambda: flight.dispatch("works"))
    wait_for(lambda: Lease.objects.count() == 1, what="a piece of work")
    with lock():
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(BOUND_SECONDS) in (0, 128 + signal.SIGTERM)


def test_a_locked_database_with_forty_leases_ends_within_the_bound(server):
    flight = InFlight(server)
    flight.begin(lambda: flight.dispatch("works"), 40)
    wait_for(lambda: Lease.objects.count_works() == 40, what="forty pieces of work")
    with lock():
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(BOUND_SECONDS) == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text()


def test_two_hundred_dispatches_behind_a_wake_end_within_the_bound(server):
    flight = InFlight(server)
    flight.begin(lambda: flight.dispatch("starts"), 200)
    flight.begin(flight.read)
    wait_for(lambda: Instance.objects.filter(name="starts", state="starting").exists(), what="the wake")
    wait_for(lambda: flight.streams, what="a reader")
    end_in_bound(server)


def test_two_hundred_dispatches_behind_an_engine_that_does_not_answer_end_within_the_bound(serve):
    """The engine accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as engine:
        address = f"tcp://127.0.0.1:{engine.getsockname()[1]}"
        server = serve(DORMOUSE_ENGINE="docker", DOCKER_HOST=address, DORMOUSE_SUPERVISOR="embedded")
        flight = InFlight(server)
        for number in range(200):
            flight.begin(lambda number=number: flight.dispatch(f"agent-{number % 20}"))
        flight.begin(flight.read)
        wait_for(lambda: flight.streams, what="a reader")
        end_in_bound(server)


def end_in_bound(server):
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(BOUND_SECONDS) == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    assert (Lease.objects.count(), Worker.objects.count()) == (0, 0), server.log.read_text()
