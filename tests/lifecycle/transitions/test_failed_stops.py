"""Stops that the engine refuses: one event for a series, an instance that stays usable, and growing pauses."""

import pytest

from lifecycle.exceptions import EngineNonsense, EngineRefused, StartFailed
from lifecycle.state_machine import State
from tests.lifecycle.conftest import NAME, idle, recover, row, stop_idle, use
from tests.lifecycle.fake_engine import raising

WHY = "cannot stop container: permission denied"


@pytest.fixture
def refusals(engine):
    """Return a function that makes the next `count` stops fail."""

    def refuse(count, error=EngineRefused):
        engine.before["stop"] = [raising(error(WHY)) for _ in range(count)]

    return refuse


@pytest.fixture
def idle_box(lifecycle, clock, box, events):
    idle(lifecycle, clock)
    events.clear()
    return box


@pytest.mark.parametrize("error", [EngineRefused, EngineNonsense])
def test_a_refused_stop_is_told_and_leaves_the_instance_ready(lifecycle, idle_box, events, refusals, error):
    refusals(1, error)
    stop_idle(lifecycle)
    told = {"instance": NAME, "run": 1, "error": WHY, "idle_seconds": 60, "trigger": "idle"}
    assert events.only("lazy_stop_failed") == told
    assert (row().state, row().owner, row().stop_failure["error"]) == (State.READY, None, WHY)


def test_it_takes_work_meanwhile(lifecycle, idle_box, engine, refusals):
    refusals(1)
    stop_idle(lifecycle)
    use(lifecycle)
    assert engine.count("start") == 1


def test_the_pauses_double_up_to_an_hour(lifecycle, engine, idle_box, clock, events, refusals):
    refusals(9)
    stop_idle(lifecycle)
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
        stops = engine.count("stop")
        clock.go(minutes * 60 - 1)
        stop_idle(lifecycle)
        assert engine.count("stop") == stops
        clock.go(1)
        stop_idle(lifecycle)
        assert engine.count("stop") == stops + 1
    assert events.types == ["lazy_stop_failed"]


def test_work_in_between_does_not_make_another_event(lifecycle, idle_box, clock, events, refusals):
    refusals(2)
    stop_idle(lifecycle)
    use(lifecycle)
    clock.go(600)
    stop_idle(lifecycle)
    assert (events.types, row().stop_failure["tries"]) == (["lazy_stop_failed"], 2)


def test_a_stop_that_succeeds_ends_the_series(lifecycle, idle_box, clock, events, refusals):
    refusals(1)
    stop_idle(lifecycle)
    clock.go(60)
    stop_idle(lifecycle)
    assert (events.types, row().state, row().stop_failure) == (
        ["lazy_stop_failed", "lazy_stopped"],
        State.ASLEEP,
        None,
    )
    idle(lifecycle, clock)
    refusals(1)
    stop_idle(lifecycle)
    assert events.types[-2:] == ["lazy_started", "lazy_stop_failed"]


def test_a_refused_stop_of_what_has_ended_is_a_stop(lifecycle, idle_box, events, engine):
    def end_and_refuse():
        idle_box.end(143)
        raise EngineRefused(WHY)

    engine.before["stop"] = [end_and_refuse]
    stop_idle(lifecycle)
    assert events.types == ["lazy_stopped"]


def test_a_stop_of_a_dead_worker_that_is_refused_is_told_too(lifecycle, idle_box, events, refusals, engine):
    engine.before["stop"] = [raising(KeyboardInterrupt())]
    with pytest.raises(KeyboardInterrupt):
        stop_idle(lifecycle)
    refusals(1)
    recover(lifecycle)
    assert events.types == ["lazy_stop_failed"]
    assert row().state == State.READY


def test_a_failed_start_whose_stop_is_refused_says_both(lifecycle, box, agent, events, refusals):
    agent.why_not = ["it is slow"]
    refusals(1)
    with pytest.raises(StartFailed, match=f"it is slow; it could not be stopped: {WHY}"):
        lifecycle.waking.wake(NAME)
    assert events.types == ["lazy_start_failed"]
