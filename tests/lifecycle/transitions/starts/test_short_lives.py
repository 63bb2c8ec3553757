"""An agent that ends each time between its readiness and its work is not started for ever by one dispatch."""

import pytest

from lifecycle.exceptions import Cause, StartFailed
from lifecycle.models import Instance
from lifecycle.state_machine import State
from lifecycle.supervision.reconciler import Reconciler
from tests.lifecycle.conftest import NAME, leased, row, use


@pytest.fixture
def ends_when_ready(engine, box, agent, monkeypatch):
    """The box, which ends as soon as its start has been settled."""
    inspect = engine.inspect

    def inspect_and_end(name):
        if box.running and Instance.objects.filter(pk=name, state=State.READY).exists():
            box.end(1)
        return inspect(name)

    monkeypatch.setattr(engine, "inspect", inspect_and_end)
    return box


def dispatch(lifecycle):
    """Do what a dispatch does until it has a lease."""
    while (found := lifecycle.leases.take(NAME)) is None:
        lifecycle.waking.wake(NAME)
    return found


def test_one_dispatch_gives_up_after_three_short_lives(lifecycle, ends_when_ready, events):
    with pytest.raises(StartFailed) as raised:
        dispatch(lifecycle)
    error = "ended 3 times in a row within 10 s of being ready, before any work came; see its output"
    assert (raised.value.cause, raised.value.exit_code, raised.value.error) == (Cause.EXITED, 1, error)
    assert events.types == ["lazy_started"] * 3 + ["lazy_start_failed"]
    assert (ends_when_ready.run, row().state, row().short_lives) == (3, State.ASLEEP, 0)


def test_the_next_dispatch_tries_again(lifecycle, ends_when_ready):
    for _ in range(2):
        with pytest.raises(StartFailed):
            dispatch(lifecycle)
    assert ends_when_ready.run == 6


def test_ends_that_a_supervisor_sees_first_count_as_well(lifecycle, engine, box, events):
    reconciler = Reconciler(lifecycle)
    for _ in range(3):
        lifecycle.waking.wake(NAME)
        box.end(1)
        reconciler.reconcile()
    with pytest.raises(StartFailed, match="ended 3 times in a row"):
        lifecycle.waking.wake(NAME)


def test_work_ends_the_series(lifecycle, box):
    for _ in range(4):
        use(lifecycle)
        box.end(1)
    with leased(lifecycle):
        assert (box.run, row().short_lives) == (5, 0)


def test_a_life_of_ten_seconds_is_not_short(lifecycle, clock, box):
    for _ in range(4):
        lifecycle.waking.wake(NAME)
        clock.go(10)
        box.end(1)
    lifecycle.waking.wake(NAME)
    assert box.run == 5
