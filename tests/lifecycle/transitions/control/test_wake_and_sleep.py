"""What people order besides work: an instance wakes, or is put to sleep."""

import pytest

from lifecycle.exceptions import (
    EngineRefused,
    EngineUnreachable,
    NeededBy,
    StopFailed,
    UnknownInstance,
    WorkInFlight,
)
from lifecycle.models import Instance, Lease
from lifecycle.state_machine import State
from tests.lifecycle.conftest import NAME, leased, make_row, recover, row, use
from tests.lifecycle.fake_engine import raising
from tests.lifecycle.transitions.control.conftest import ALICE, SLEEP, WAKE, keep_awake, stop_disabled


def test_a_wake_starts_it_and_tells_by_whom(control, clock, engine, box, events):
    engine.after["start"] = [lambda: clock.go(0.25)]
    assert control.wake(NAME, WAKE) == 250
    assert events.only("lazy_started").items() >= ({"trigger": "wake"} | ALICE).items()
    assert not Lease.objects.exists()


def test_a_wake_of_one_that_is_ready_begins_its_idle_time(control, clock, ready, events):
    clock.go(30)
    assert control.wake(NAME, WAKE) is None
    assert row().last_used == clock.now()
    assert events == []


def test_nothing_can_be_ordered_of_one_that_is_unknown(control, clock):
    with pytest.raises(UnknownInstance):
        control.wake("nobody", WAKE)
    with pytest.raises(UnknownInstance):
        control.sleep("nobody", SLEEP)
    with pytest.raises(UnknownInstance):
        control.keep_awake("nobody", clock.now(), ALICE)
    with pytest.raises(UnknownInstance):
        control.end_keep_awake("nobody", ALICE, may_control=True)
    with pytest.raises(UnknownInstance):
        control.disable("nobody", "", ALICE)
    with pytest.raises(UnknownInstance):
        control.enable("nobody", ALICE)


def test_sleep_stops_it_and_tells_by_whom(control, clock, ready, events):
    clock.go(30)
    control.sleep(NAME, SLEEP)
    told = {"instance": NAME, "run": 1, "idle_seconds": 30, "trigger": "sleep"} | ALICE
    assert events.only("lazy_stopped") == told
    assert (ready.running, row().state) == (False, State.ASLEEP)


@pytest.mark.parametrize("is_known", [True, False])
def test_sleep_of_one_that_is_asleep_tells_nothing(control, clock, box, events, is_known):
    if is_known:
        make_row(clock)
    control.sleep(NAME, SLEEP)
    assert (events, box.run) == ([], 0)


def test_sleep_of_one_that_the_engine_has_lost_tells_nothing(control, clock, engine, events):
    make_row(clock)
    control.sleep(NAME, SLEEP)
    assert events == []


def test_sleep_stops_one_that_a_person_started_a_moment_ago(control, clock, box, events):
    make_row(clock)
    box.begin()
    control.sleep(NAME, SLEEP)
    assert (box.running, events.types) == (False, ["lazy_stopped"])


def test_sleep_is_refused_while_work_is_in_flight(lifecycle, control, box, events):
    with leased(lifecycle), pytest.raises(WorkInFlight, match="has 1 piece of work in flight"):
        control.sleep(NAME, SLEEP)
    assert (box.running, row().state, events.types) == (True, State.READY, ["lazy_started"])


def test_sleep_with_force_stops_it_with_work_in_flight(lifecycle, control, clock, box, events):
    with leased(lifecycle):
        clock.go(30)
        control.sleep(NAME, SLEEP, force=True)
    assert (box.running, row().state, events.types) == (False, State.ASLEEP, ["lazy_started", "lazy_stopped"])
    assert events[-1][1]["idle_seconds"] == 0


@pytest.mark.parametrize("force", [True, False])
def test_work_that_comes_between_the_look_and_the_claim(lifecycle, control, ready, events, force):
    """The lease moves the version, so the claim fails, and sleep looks again."""
    claim, leases = lifecycle.claims.claim_stop, []

    def lease_first(*arguments):
        lifecycle.claims.claim_stop = claim
        leases.append(lifecycle.leases.take(NAME))
        return claim(*arguments)

    lifecycle.claims.claim_stop = lease_first
    if force:
        control.sleep(NAME, SLEEP, force=True)
        assert row().state == State.ASLEEP
    else:
        with pytest.raises(WorkInFlight):
            control.sleep(NAME, SLEEP)
        assert row().state == State.READY


def test_sleep_waits_for_a_start_and_stops_it_then(lifecycle, control, clock, box, events):
    make_row(clock, State.STARTING, owner=lifecycle.worker.id, run=1)  # which this worker has left behind
    box.begin()
    control.sleep(NAME, SLEEP)
    assert events.types == ["lazy_started", "lazy_stopped"]
    assert not box.running


def test_sleep_waits_for_the_stop_of_another_and_tells_nothing_more(lifecycle, control, clock, ready, events):
    Instance.objects.update(state=State.STOPPING, owner=lifecycle.worker.id, idle_seconds=7)
    control.sleep(NAME, SLEEP)
    assert events.only("lazy_stopped")["idle_seconds"] == 7


def test_a_refused_stop_is_told_to_the_caller(control, engine, ready, events):
    engine.before["stop"] = [raising(EngineRefused("permission denied"))]
    with pytest.raises(StopFailed, match="reviewer-default could not be stopped: permission denied"):
        control.sleep(NAME, SLEEP)
    assert events.only("lazy_stop_failed").items() >= ALICE.items()
    assert row().state == State.READY


def test_a_stop_whose_answer_was_lost_is_recovered_and_told_by_whom(lifecycle, control, engine, ready, events):
    engine.after["stop"] = [raising(EngineUnreachable("connection reset"))]
    with pytest.raises(EngineUnreachable):
        control.sleep(NAME, SLEEP)
    assert (row().state, events) == (State.STOPPING, [])
    recover(lifecycle)
    assert events.only("lazy_stopped").items() >= ({"trigger": "sleep"} | ALICE).items()


def test_one_that_an_awake_one_needs_is_not_put_to_sleep(lifecycle, control, engine, box, events):
    engine.add("designer-default", port="8081", needs=NAME)
    use(lifecycle, "designer-default")
    for force in (True, False):
        with pytest.raises(NeededBy, match="reviewer-default is needed by designer-default"):
            control.sleep(NAME, SLEEP, force=force)
    control.disable(NAME, "", ALICE)
    stop_disabled(lifecycle)
    assert box.running
    control.sleep("designer-default", SLEEP)
    stop_disabled(lifecycle)
    assert not box.running


def test_a_failing_sink_rolls_a_decision_back(control, clock, ready, events):
    for order in (lambda: keep_awake(control, clock), lambda: control.disable(NAME, "", ALICE)):
        events.troubles = [ZeroDivisionError()]
        with pytest.raises(ZeroDivisionError):
            order()
    assert (row().awake_until, row().disabled) == (None, None)
