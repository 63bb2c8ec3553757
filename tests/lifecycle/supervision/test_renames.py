"""Containers that are renamed while they work, and a dispatch that is faster than the supervisor.

The dispatch takes the row of the name for the next container, so the row does not tell any more what ran before.
"""

import pytest

from lifecycle.exceptions import StartFailed
from lifecycle.models import EndNote, Lease
from lifecycle.state_machine import State
from tests.lifecycle.conftest import NAME, row, stop_idle, use

OLD = f"{NAME}-old"


@pytest.fixture
def at_work(lifecycle, box, engine, reconciler):
    """The lease of a piece of work in a container that was then renamed."""
    use(lifecycle)
    reconciler.reconcile()
    lease = lifecycle.leases.take(NAME).lease
    engine.rename(NAME, OLD)
    return lease


def sweep(reconciler, lifecycle, clock, seconds=4):
    """Some sweeps, a second apart, which also stop what is idle."""
    for _ in range(seconds):
        reconciler.reconcile()
        stop_idle(lifecycle)
        clock.go(1)


def test_work_in_a_container_whose_name_is_woken_anew_keeps_it_awake(
    at_work, reconciler, lifecycle, engine, box, clock
):
    following = engine.add(NAME, idle_timeout="1m", port="8080")
    use(lifecycle)
    sweep(reconciler, lifecycle, clock, seconds=100)
    assert (box.running, following.running) == (True, False)
    assert Lease.objects.get(pk=at_work.pk).instance_id == OLD
    lifecycle.leases.end([at_work])
    sweep(reconciler, lifecycle, clock, seconds=100)
    assert not box.running


def test_work_in_a_container_whose_name_is_woken_in_vain_keeps_it_awake(at_work, reconciler, lifecycle, box, clock):
    with pytest.raises(StartFailed):
        lifecycle.waking.wake(NAME)
    sweep(reconciler, lifecycle, clock, seconds=100)
    assert box.running
    assert Lease.objects.get(pk=at_work.pk).instance_id == OLD


def test_a_container_whose_name_is_woken_anew_has_not_ended(at_work, reconciler, lifecycle, engine, events, clock):
    engine.add(NAME, idle_timeout="1m", port="8080")
    use(lifecycle)
    assert EndNote.objects.count() == 1
    sweep(reconciler, lifecycle, clock)
    assert not EndNote.objects.exists()
    assert events.types == ["lazy_started", "lazy_started"]


def test_a_container_that_was_renamed_and_then_ended_is_told_once(
    at_work, reconciler, lifecycle, engine, box, events, clock
):
    engine.add(NAME, idle_timeout="1m", port="8080")
    use(lifecycle)
    sweep(reconciler, lifecycle, clock)
    box.end(3)
    reconciler.mark_for_inspection(OLD)
    sweep(reconciler, lifecycle, clock)
    (told,) = [data for type, data in events if type == "exited"]
    assert (told["instance"], told["exit_code"], told["work_in_flight"]) == (OLD, 3, 1)
    assert row(OLD).state == State.ASLEEP


def test_the_end_of_the_next_container_has_not_the_work_of_the_one_before(
    at_work, reconciler, lifecycle, engine, events, clock
):
    following = engine.add(NAME, idle_timeout="1m", port="8080")
    use(lifecycle)
    following.end(3)
    reconciler.mark_for_inspection(NAME)
    sweep(reconciler, lifecycle, clock)
    (told,) = [data for type, data in events if type == "exited"]
    assert (told["instance"], told["work_in_flight"]) == (NAME, 0)
