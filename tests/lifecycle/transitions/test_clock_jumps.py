"""The wall clock of the machine is set: ahead, back, and to the years at which programs fail."""

from datetime import UTC, datetime, timedelta

import pytest

from lifecycle.state_machine import State
from tests.lifecycle.conftest import leased, row, stop_idle, use

JUMPS = {
    "3 h ahead": timedelta(hours=3),
    "5 h back": timedelta(hours=-5),
    "20 d ahead": timedelta(days=20),
    "to 1970": datetime(1970, 1, 1, tzinfo=UTC),
    "beyond 2038": datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
    "beyond 2106": datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC),
}


@pytest.fixture(params=JUMPS)
def jump(request, clock):
    """Return a function that sets the wall clock."""
    target = JUMPS[request.param]

    def set_wall_clock():
        clock.wall = target if isinstance(target, datetime) else clock.wall + target

    return set_wall_clock


def is_stopped_after_a_minute(lifecycle, clock, box):
    """Return whether a stop comes after the idle timeout, and none much earlier."""
    stop_idle(lifecycle)  # sets an idle clock that is in the future to now
    clock.go(55)
    stop_idle(lifecycle)
    ran = box.running
    clock.go(10)
    stop_idle(lifecycle)
    return ran and not box.running


def test_work_in_flight_is_not_stopped_and_its_end_begins_the_idle_time(lifecycle, clock, box, events, jump):
    with leased(lifecycle):
        jump()
        stop_idle(lifecycle)
        assert box.running
    assert is_stopped_after_a_minute(lifecycle, clock, box)
    assert events.types == ["lazy_started", "lazy_stopped"]
    assert events[-1][1]["idle_seconds"] == 65


def test_a_jump_during_a_start_changes_neither_its_latency_nor_its_timeout(lifecycle, engine, clock, box, events, jump):
    engine.after["start"] = [lambda: (clock.go(0.25), jump())]
    use(lifecycle)
    assert events.only("lazy_started")["latency_ms"] == 250
    assert is_stopped_after_a_minute(lifecycle, clock, box)


def test_one_that_is_idle_sleeps_once_and_works_again(lifecycle, clock, box, events, jump):
    """If the clock was set ahead, the idle time seems to be over: it sleeps at once, which costs a start."""
    use(lifecycle)
    jump()
    for _ in range(3):
        stop_idle(lifecycle)
        clock.go(60)
    assert events.types == ["lazy_started", "lazy_stopped"]
    assert events[-1][1]["idle_seconds"] >= 60
    use(lifecycle)
    assert row().state == State.READY
    assert is_stopped_after_a_minute(lifecycle, clock, box)
