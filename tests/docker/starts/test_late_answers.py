"""Calls that the engine carries out after Dormouse has given them up: each run is told once, and nothing is lost."""

import threading

import pytest

from lifecycle.exceptions import Cause, EngineUnreachable, StartFailed
from lifecycle.models import Instance
from lifecycle.state_machine import State
from lifecycle.supervision.reconciler import Reconciler
from tests.docker.support.faulty_proxy import Canned
from tests.docker.support.from_outside import logged, types
from tests.lifecycle.conftest import recover, stop_idle
from tests.servers import wait_for

#: How long Dormouse waits here for a start or a stop.
ACT_SECONDS = 1


@pytest.fixture
def held(monkeypatch, proxy):
    """Return a function that lets the engine get the next such call only when the event that is returned is set."""
    monkeypatch.setattr("lifecycle.engines.docker.engine.ACT_SECONDS", ACT_SECONDS)
    events = []

    def hold(path):
        events.append(threading.Event())
        proxy.answer("POST", path, Canned(204, times=1, passes_on=True, until=events[-1]))
        return events[-1]

    yield hold
    for event in events:
        event.set()


@pytest.fixture
def reconciler(behind_proxy):
    return Reconciler(behind_proxy)


@pytest.fixture
def started_late(behind_proxy, containers, held):
    """An instance that the engine starts long after its start was told as interrupted."""
    name = containers.create(idle_timeout="1ms")
    may_start = held("/start$")
    with pytest.raises(StartFailed) as raised:
        behind_proxy.waking.wake(name)
    assert raised.value.cause == Cause.INTERRUPTED
    assert not containers.is_running(name)
    may_start.set()
    wait_for(lambda: containers.is_running(name), what="the late start")
    return name


def test_a_start_that_is_carried_out_late_is_adopted_and_sleeps_when_it_is_idle(
    behind_proxy, reconciler, containers, started_late
):
    """It is not stopped as a failed start, because nothing shows that it is not a start of somebody else."""
    reconciler.reconcile()
    assert Instance.objects.get(pk=started_late).state == State.READY
    assert containers.is_running(started_late)
    wait_for(lambda: stop_idle(behind_proxy) or "lazy_stopped" in types(started_late), what="its sleep")
    assert types(started_late) == ["lazy_start_failed", "lazy_stopped"]
    assert not containers.is_running(started_late)


def test_a_dispatch_uses_one_that_was_started_late(behind_proxy, started_late, engine_log):
    behind_proxy.waking.wake(started_late)
    leased = behind_proxy.leases.take(started_late)
    assert leased
    behind_proxy.leases.give_back(leased.lease)
    assert engine_log.actions(started_late) in ([], ["start"])  # the log may have begun after it
    assert types(started_late) == ["lazy_start_failed"]


def test_a_start_that_is_carried_out_before_the_second_look_is_told_as_started(
    behind_proxy, containers, held, monkeypatch
):
    name = containers.create()
    may_start = held("/start$")
    look = behind_proxy.engine.inspect

    def inspect_and_let_it_start(of):
        seen = look(of)
        if Instance.objects.get(pk=name).state == State.STARTING:
            may_start.set()
        return seen

    Instance.objects.register(name, now=behind_proxy.clock.now(), idle_timeout=None)
    monkeypatch.setattr(behind_proxy.engine, "inspect", inspect_and_let_it_start)
    behind_proxy.waking.wake(name)
    assert types(name) == ["lazy_started"]
    assert Instance.objects.get(pk=name).state == State.READY


def test_a_late_start_after_the_next_dispatch_changes_nothing(behind_proxy, containers, held, engine_log):
    name = containers.create()
    may_start = held("/start$")
    with pytest.raises(StartFailed):
        behind_proxy.waking.wake(name)
    behind_proxy.waking.wake(name)
    before = containers.state(name)
    may_start.set()
    assert containers.state(name) == before
    assert engine_log.actions(name) == ["start"]
    assert [(one.type, one.data["run"]) for one in logged(name)] == [
        ("container.lazy_start_failed", 1),
        ("container.lazy_started", 2),
    ]


@pytest.mark.parametrize("sleep", ["stop", "pause"])
def test_a_stop_that_is_carried_out_late_is_told_once(behind_proxy, containers, held, sleep):
    name = containers.create(idle_timeout="1ms", stop_timeout="0s", sleep=sleep)
    behind_proxy.waking.wake(name)
    may_stop = held(f"/{sleep}$")
    (idle,) = wait_for(behind_proxy.stopping.find_idle)
    with pytest.raises(EngineUnreachable):
        behind_proxy.stopping.stop_idle(idle)
    assert Instance.objects.get(pk=name).state == State.STOPPING
    may_stop.set()
    wait_for(lambda: recover(behind_proxy) or "lazy_stopped" in types(name), what="the end of the stop")
    assert types(name) == ["lazy_started", "lazy_stopped"]
    state = containers.state(name)
    assert (state["Running"], state["Paused"]) == ((False, False) if sleep == "stop" else (True, True))
