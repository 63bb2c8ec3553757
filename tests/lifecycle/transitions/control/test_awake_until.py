"""What people order besides work: an instance is kept awake for a time."""

from datetime import timedelta

import pytest

from lifecycle.exceptions import (
    NotReady,
    OthersDecision,
)
from lifecycle.models import Instance
from lifecycle.state_machine import State
from lifecycle.transitions.control import MAX_AWAKE, read_until
from tests.lifecycle.conftest import NAME, make_row, row, stop_idle, use
from tests.lifecycle.transitions.control.conftest import ALICE, BOB, SLEEP, keep_awake


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
