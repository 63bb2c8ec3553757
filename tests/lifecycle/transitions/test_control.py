"""What people order besides work: wake, sleep, keep awake, disable and enable."""

from datetime import timedelta

import pytest

from lifecycle.exceptions import (
    Disabled,
    EngineRefused,
    EngineUnreachable,
    NeededBy,
    NotReady,
    OthersDecision,
    StartFailed,
    StopFailed,
    UnknownInstance,
    WorkInFlight,
)
from lifecycle.models import Instance, Lease
from lifecycle.orders import Order, Trigger
from lifecycle.state_machine import State
from lifecycle.transitions.control import MAX_AWAKE, MAX_REASON_CHARACTERS, read_until
from tests.lifecycle.conftest import NAME, idle, leased, make_row, recover, row, stop_idle, use
from tests.lifecycle.fake_engine import raising

ALICE = {"by": "alice", "by_kind": "user"}
BOB = {"by": "bob", "by_kind": "user"}
WAKE, SLEEP = Order(Trigger.WAKE, **ALICE), Order(Trigger.SLEEP, **ALICE)


def stop_disabled(lifecycle):
    """Stop what is disabled, as a sweep does, but in this thread."""
    for found in lifecycle.stopping.find_disabled():
        lifecycle.stopping.stop_disabled(found)


@pytest.fixture
def control(lifecycle):
    return lifecycle.control


@pytest.fixture
def ready(lifecycle, box, events):
    use(lifecycle)
    events.clear()
    return box


# Wake


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


# Sleep


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


def test_a_start_that_needs_a_disabled_one_fails_and_names_it(lifecycle, control, engine, box, events):
    engine.add("designer-default", port="8081", needs=NAME)
    control.disable(NAME, "model key rotated", ALICE)
    with pytest.raises(StartFailed, match="needs reviewer-default: reviewer-default is disabled by alice"):
        use(lifecycle, "designer-default")
    assert events[-1][1]["cause"] == "dependency"


# Awake until


def keep_awake(control, clock, hours=1.0, caller=ALICE):
    return control.keep_awake(NAME, clock.now() + timedelta(hours=hours), caller)


def test_one_that_is_kept_awake_is_not_put_to_sleep_before(lifecycle, control, clock, ready, events):
    until = keep_awake(control, clock)
    clock.go(3599)
    stop_idle(lifecycle)
    assert ready.running
    told = {"instance": NAME, "until": until.isoformat(timespec="milliseconds").replace("+00:00", "Z")} | ALICE
    assert events.only("kept_awake") == told
    clock.go(1)
    stop_idle(lifecycle)
    assert (ready.running, events.types) == (False, ["kept_awake", "lazy_stopped"])
    assert row().awake_until is None


def test_keeping_awake_between_the_look_and_the_claim_wins(lifecycle, control, clock, ready, events):
    clock.go(60)
    (found,) = lifecycle.stopping.find_idle()
    keep_awake(control, clock)
    lifecycle.stopping.stop_idle(found)
    assert ready.running


def test_it_does_not_move_the_version(control, clock, ready):
    version = row().version
    keep_awake(control, clock)
    control.end_keep_awake(NAME, ALICE, may_control=False)
    control.disable(NAME, "", ALICE)
    control.enable(NAME, ALICE)
    assert row().version == version


def test_it_is_never_shortened(control, clock, ready, events):
    until = keep_awake(control, clock, hours=2)
    assert keep_awake(control, clock, hours=1, caller=BOB) == until
    assert row().awake_until == until
    assert events.only("kept_awake")["by"] == "alice"


def test_one_that_was_over_is_replaced(control, clock, ready, events):
    keep_awake(control, clock)
    clock.go(7200)
    assert keep_awake(control, clock) == row().awake_until == clock.now() + timedelta(hours=1)
    assert events.types == ["kept_awake", "kept_awake"]


@pytest.mark.parametrize("state", [State.ASLEEP, State.STARTING, State.STOPPING])
def test_only_one_that_is_ready_is_kept_awake(control, clock, box, events, state):
    make_row(clock, state)
    with pytest.raises(NotReady, match=f"reviewer-default is {state}. Only an agent that is ready"):
        keep_awake(control, clock)
    assert (events, row().awake_until) == ([], None)


def test_it_can_be_ended(lifecycle, control, clock, ready, events):
    keep_awake(control, clock)
    control.end_keep_awake(NAME, ALICE | {"for": "PR 812"}, may_control=False)
    control.end_keep_awake(NAME, ALICE, may_control=False)
    assert events.types == ["kept_awake", "keep_awake_ended"]
    clock.go(60)
    stop_idle(lifecycle)
    assert not ready.running


def test_the_decision_of_another_caller_needs_control(control, clock, ready, events):
    keep_awake(control, clock)
    with pytest.raises(OthersDecision, match="kept awake by alice"):
        control.end_keep_awake(NAME, BOB, may_control=False)
    assert row().awake_until
    control.end_keep_awake(NAME, BOB, may_control=True)
    assert row().awake_until is None
    assert events[-1][1]["by"] == "bob"


def test_sleep_ends_it(control, clock, ready, events):
    keep_awake(control, clock)
    control.sleep(NAME, SLEEP)
    assert row().awake_until is None
    assert events.types == ["kept_awake", "lazy_stopped"]


def test_it_outlives_a_crash(lifecycle, control, clock, ready):
    until = keep_awake(control, clock)
    Instance.objects.mark_asleep(row(), now=clock.now())
    use(lifecycle)
    clock.go(60)
    stop_idle(lifecycle)
    assert (ready.running, row().awake_until) == (True, until)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({}, "Say either for how long or until when."),
        ({"duration": "1h", "until": "2026-11-23T19:00:00Z"}, "Say either for how long or until when."),
        ({"duration": "soon"}, "'soon' is no duration"),
        ({"duration": "0"}, "'0' "),
        ({"duration": "24h1s"}, "at most 24 h"),
        ({"duration": "99999d"}, "'99999d' "),
        ({"until": "tomorrow"}, "'tomorrow' is no time"),
        ({"until": "2026-11-23T19:00:00"}, "has no time zone"),
        ({"until": "2026-11-23T18:55:30Z"}, "That time has passed."),
        ({"until": "2026-11-24T18:55:31Z"}, "at most 24 h"),
        ({"until": "0001-01-01T00:00:00+14:00"}, "That time has passed."),
        ({"until": "9999-12-31T23:59:59-14:00"}, "at most 24 h"),
    ],
)
def test_a_time_that_cannot_be_is_refused(clock, sent, message):
    with pytest.raises(ValueError, match=message):
        read_until(clock.now(), **sent)


def test_a_time_is_read_in_both_ways(clock):
    now = clock.now()
    assert read_until(now, duration="24h") == now + MAX_AWAKE
    assert read_until(now, until="2026-11-24T05:40:00+01:00").isoformat() == "2026-11-24T05:40:00+01:00"


# Disabled


def test_one_that_is_disabled_takes_no_work_and_is_put_to_sleep(lifecycle, control, ready, events):
    control.disable(NAME, "model key rotated", ALICE)
    assert events.only("disabled") == {"instance": NAME, "reason": "model key rotated"} | ALICE
    with pytest.raises(Disabled, match="reviewer-default is disabled by alice: model key rotated"):
        lifecycle.leases.take(NAME)
    stop_disabled(lifecycle)
    assert events[-1][1].items() >= ({"trigger": "disabled"} | ALICE).items()
    assert (ready.running, events.types) == (False, ["disabled", "lazy_stopped"])
    with pytest.raises(Disabled):
        use(lifecycle)
    with pytest.raises(Disabled):
        control.wake(NAME, WAKE)
    assert ready.run == 1


def test_it_takes_work_again_when_it_is_enabled(lifecycle, control, ready, events):
    control.disable(NAME, "model key rotated", ALICE)
    control.enable(NAME, BOB)
    control.enable(NAME, BOB)
    assert events.types == ["disabled", "enabled"]
    assert events[-1][1].items() >= ({"reason": "model key rotated"} | BOB).items()
    stop_disabled(lifecycle)
    use(lifecycle)
    assert ready.running


def test_its_work_ends_first(lifecycle, control, ready):
    with leased(lifecycle):
        control.disable(NAME, "", ALICE)
        stop_disabled(lifecycle)
        assert ready.running
    stop_disabled(lifecycle)
    assert not ready.running


def test_with_force_its_work_is_broken_off(lifecycle, control, ready):
    with leased(lifecycle):
        control.disable(NAME, "", ALICE)
        control.disable(NAME, "", ALICE, force=True)
        stop_disabled(lifecycle)
        assert not ready.running


def test_the_same_decision_is_told_once(control, ready, events):
    control.disable(NAME, "key", ALICE)
    control.disable(NAME, "key", BOB)
    assert events.types == ["disabled"]
    control.disable(NAME, "another key", BOB)
    assert (events.types, row().disabled["by"]) == (["disabled", "disabled"], "bob")


def test_it_is_disabled_though_it_is_kept_awake(lifecycle, control, clock, ready):
    keep_awake(control, clock)
    control.disable(NAME, "", ALICE)
    stop_disabled(lifecycle)
    assert (ready.running, row().awake_until) == (False, None)


def test_a_start_that_is_under_way_keeps_its_claim_and_is_stopped_after_it(lifecycle, control, engine, box, events):
    engine.after["start"] = [lambda: control.disable(NAME, "", ALICE)]
    with pytest.raises(Disabled):
        use(lifecycle)
    assert events.types == ["disabled", "lazy_started"]
    stop_disabled(lifecycle)
    assert not box.running


def test_disabling_between_the_look_and_the_lease_wins(lifecycle, control, engine, ready):
    engine.before["inspect"] = [lambda: control.disable(NAME, "", ALICE)]
    assert lifecycle.leases.take(NAME) is None
    assert not Lease.objects.exists()


def test_disabling_between_the_look_and_the_claim_wins(lifecycle, control, engine, clock, box, events):
    make_row(clock)
    engine.before["inspect"] = [lambda: control.disable(NAME, "", ALICE)]
    with pytest.raises(Disabled):
        lifecycle.waking.wake(NAME)
    assert (engine.count("start"), events.types) == (0, ["disabled"])


def test_enabling_between_the_look_and_the_stop_wins(lifecycle, control, ready):
    control.disable(NAME, "", ALICE)
    (found,) = lifecycle.stopping.find_disabled()
    control.enable(NAME, ALICE)
    lifecycle.stopping.stop_disabled(found)
    assert ready.running


def test_one_that_a_person_started_although_it_is_disabled_is_left_to_its_idle_timeout(
    lifecycle, control, clock, ready, events
):
    control.disable(NAME, "", ALICE)
    stop_disabled(lifecycle)
    clock.go(5)
    ready.begin()
    lifecycle.adopting.adopt(row(), lifecycle.engine.inspect(NAME))
    stop_disabled(lifecycle)
    assert ready.running
    clock.go(60)
    stop_idle(lifecycle)
    assert not ready.running


def test_a_disabled_one_whose_stop_is_refused_is_tried_again_later(lifecycle, control, engine, clock, ready, events):
    engine.before["stop"] = [raising(EngineRefused("no"))]
    control.disable(NAME, "", ALICE)
    stop_disabled(lifecycle)
    stop_disabled(lifecycle)
    assert (ready.running, engine.count("stop")) == (True, 1)
    clock.go(60)
    stop_disabled(lifecycle)
    assert not ready.running


def test_a_reason_is_cut_and_stored_as_it_can_be(control, box):
    kept = control.disable(NAME, "a\0" + "x" * 300, {})
    assert kept["reason"] == "a\N{REPLACEMENT CHARACTER}" + "x" * (MAX_REASON_CHARACTERS - 2)


def test_a_failing_sink_rolls_a_decision_back(control, clock, ready, events):
    for order in (lambda: keep_awake(control, clock), lambda: control.disable(NAME, "", ALICE)):
        events.troubles = [ZeroDivisionError()]
        with pytest.raises(ZeroDivisionError):
            order()
    assert (row().awake_until, row().disabled) == (None, None)


def test_idle_instances_are_told_as_idle_although_they_are_disabled(lifecycle, control, clock, box, events):
    idle(lifecycle, clock)
    control.disable(NAME, "", ALICE)
    stop_idle(lifecycle)
    assert events[-1][1]["trigger"] == "idle"
