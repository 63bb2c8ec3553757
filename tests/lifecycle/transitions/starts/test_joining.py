"""Wakes in two processes at once: one start, and both get its result."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections

from lifecycle.clock import Clock
from lifecycle.exceptions import StartFailed
from lifecycle.models import Instance
from lifecycle.state_machine import State
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.workers.heartbeats import ThisWorker
from tests.lifecycle.conftest import NAME, Events, make_row, row, stop_idle, use
from tests.lifecycle.fake_engine import Program
from tests.servers import wait_for


@pytest.fixture
def two(transactional_db, engine, box) -> tuple[Lifecycle, Lifecycle]:
    """Two processes' lifecycles on one database and one engine, with clocks that run."""
    found = []
    for _ in range(2):
        worker = ThisWorker("test")
        worker.send_heartbeat()
        found.append(Lifecycle(engine, worker, sink=Events(), probe=lambda seen, labels: None))
    return found[0], found[1]


class InThread(threading.Thread):
    """A wake in a thread of its own, which keeps what it raised."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        super().__init__(daemon=True)
        self.lifecycle = lifecycle
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            use(self.lifecycle)
        except Exception as error:
            self.error = error
        finally:
            connections.close_all()

    def result(self) -> Exception | None:
        self.join(60)
        assert not self.is_alive()
        return self.error


class Gate(threading.Event):
    """An event that holds a call up, with another one that says when the call has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()


@pytest.fixture
def held(engine):
    """Holds the next start in the engine until it is set."""
    gate = Gate()
    engine.before["start"] = [lambda: (gate.begun.set(), gate.wait(60))]
    yield gate
    gate.set()


def polled(engine, lifecycle, times=3):
    """Waits until another process has looked at the row a few times."""
    looked = threading.Semaphore(0)
    look = lifecycle.clock.sleep
    lifecycle.clock.sleep = lambda seconds: (look(seconds), looked.release())
    return all(looked.acquire(timeout=60) for _ in range(times))


def test_a_second_dispatch_waits_for_the_first_start(two, engine, held):
    first = InThread(two[0])
    assert held.begun.wait(60)
    second = InThread(two[1])
    assert polled(engine, two[1])
    assert second.is_alive()
    held.set()
    assert (first.result(), second.result()) == (None, None)
    assert engine.count("start") == 1


def test_a_dispatch_that_joined_a_run_gets_its_failure(two, engine, held):
    engine.before["start"].append(lambda: None)
    engine.boxes[NAME].program = Program.MISSING
    first = InThread(two[0])
    assert held.begun.wait(60)
    second = InThread(two[1])
    assert polled(engine, two[1])
    held.set()
    assert str(first.result()) == str(second.result()) == f"{NAME} failed to start: its command does not exist"
    assert engine.count("start") == 1


def test_a_dispatch_after_a_failed_run_makes_a_new_run(two, engine):
    engine.boxes[NAME].program = Program.MISSING
    assert isinstance(InThread(two[0]).result(), StartFailed)
    assert isinstance(InThread(two[1]).result(), StartFailed)
    assert engine.count("start") == 2
    assert row().run == 2


def test_a_dispatch_that_meets_a_stop_waits_for_its_end_and_wakes_it(two, engine, box):
    gate, begun = threading.Event(), threading.Event()
    engine.before["stop"] = [lambda: (begun.set(), gate.wait(60))]
    box.begin()
    make_row(two[0].clock, State.READY, incarnation=box.incarnation, probed=True, idle_timeout=timedelta(0))
    Instance.objects.update(last_used=two[0].clock.now())

    def stop():
        stop_idle(two[0])
        connections.close_all()

    stopping = threading.Thread(target=stop, daemon=True)
    stopping.start()
    assert begun.wait(60)
    dispatch = InThread(two[1])
    assert polled(engine, two[1])
    assert engine.count("start") == 0
    gate.set()
    stopping.join(60)
    assert dispatch.result() is None
    assert [call for call, _ in engine.calls if call in ("start", "stop")] == ["stop", "start"]
    assert wait_for(lambda: box.running)


def test_a_waiting_fake_engine_is_never_asked_in_a_transaction(two, engine, box):
    """SQLite has one writer, so a transaction around an engine call would block every other one."""
    inside = []
    for call in ("inspect", "start", "stop"):
        engine.before[call] = [lambda: inside.append(connection.in_atomic_block)] * 20
    use(two[0])
    Instance.objects.update(last_used=Clock().now() - timedelta(hours=1))
    stop_idle(two[0])
    assert len(inside) > 3
    assert not any(inside)
