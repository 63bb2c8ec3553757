"""A lifecycle whose engine, clock, probe and sink the tests hold in their hands."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.dispatch import Signal

from lifecycle import signals
from lifecycle.clock import Clock
from lifecycle.engines.base import Inspection
from lifecycle.engines.labels import Labels
from lifecycle.models import Instance
from lifecycle.state_machine import State
from lifecycle.transitions.leases import LeasedInstance
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.workers.heartbeats import ThisWorker
from tests.lifecycle.fake_clock import FakeClock
from tests.lifecycle.fake_engine import Box, FakeEngine
from tests.servers import wait_for

NAME = "reviewer-default"
TYPES = {
    signals.lazy_started: "lazy_started",
    signals.lazy_stopped: "lazy_stopped",
    signals.lazy_stop_failed: "lazy_stop_failed",
    signals.lazy_start_failed: "lazy_start_failed",
    signals.exited: "exited",
    signals.work_failed: "work_failed",
    signals.kept_awake: "kept_awake",
    signals.keep_awake_ended: "keep_awake_ended",
    signals.disabled: "disabled",
    signals.enabled: "enabled",
}


class Events(list[tuple[str, dict[str, Any]]]):
    """The injected sink: what was reported, in order. `troubles` are raised, one a report, before it is kept."""

    def __init__(self) -> None:
        self.troubles: list[Exception] = []

    def __call__(self, signal: Signal, **data: Any) -> None:
        if self.troubles:
            raise self.troubles.pop(0)
        self.append((TYPES[signal], data))

    @property
    def types(self) -> list[str]:
        return [type for type, _ in self]

    def only(self, type: str) -> dict[str, Any]:
        """The data of the one event there is, without its time."""
        assert self.types == [type]
        return {key: value for key, value in self[0][1].items() if key != "at"}


class Agent:
    """The injected probe: what the agent says. `why_not` has one answer an attempt; the last of them holds on."""

    def __init__(self) -> None:
        self.why_not: list[str | None] = [None]
        self.asked = 0
        self.latest: Inspection | None = None

    def __call__(self, seen: Inspection, labels: Labels) -> str | None:
        self.asked += 1
        self.latest = seen
        return self.why_not.pop(0) if len(self.why_not) > 1 else self.why_not[0]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def lifecycle(db: None, engine: FakeEngine, clock: FakeClock, events: Events, agent: Agent) -> Lifecycle:
    worker = ThisWorker("test", clock)
    worker.send_heartbeat()
    clock.listeners.append(worker.send_heartbeat)
    return Lifecycle(engine, worker, clock=clock, sink=events, probe=agent)


@pytest.fixture
def box(engine: FakeEngine) -> Box:
    return engine.add(NAME, idle_timeout="1m", port="8080")


def row(name: str = NAME) -> Instance:
    return Instance.objects.get(pk=name)


def make_row(clock: Clock, state: State = State.ASLEEP, name: str = NAME, **values: Any) -> Instance:
    return Instance.objects.create(name=name, state=state, since=clock.now(), **values)


@contextmanager
def leased(lifecycle: Lifecycle, name: str = NAME) -> Iterator[LeasedInstance]:
    """Hold a lease of the instance inside the block. Wake the instance first if it is not ready."""
    found = lifecycle.leases.take(name)
    if found is None:
        lifecycle.waking.wake(name)
        found = lifecycle.leases.take(name)
        assert found, "it was ready when wake() returned"
    try:
        yield found
    finally:
        lifecycle.leases.give_back(found.lease)


def use(lifecycle: Lifecycle, name: str = NAME) -> None:
    """Wake the instance if it is not ready, and end a piece of work in it at once."""
    with leased(lifecycle, name):
        pass


def recover(lifecycle: Lifecycle) -> None:
    """Settle what dead workers left behind, as a sweep does, but in this thread."""
    for claim in lifecycle.recovering.find_abandoned():
        lifecycle.recovering.recover(claim)
    lifecycle.recovering.end_leases_of_the_dead()


def stop_idle(lifecycle: Lifecycle) -> None:
    """Stop what is idle, as a sweep does, but in this thread."""
    for row in lifecycle.stopping.find_idle():
        lifecycle.stopping.stop_idle(row)


def idle(lifecycle: Lifecycle, clock: FakeClock, seconds: float = 60) -> None:
    """Wake the instance, and let it be idle for `seconds`."""
    use(lifecycle)
    clock.go(seconds)


def wait_for_orders():
    """Wait for the threads of orders: after an error they look for a claim, which needs the database."""
    wait_for(lambda: not any(thread.name.startswith("order ") for thread in threading.enumerate()))
