"""What people order besides work: an instance takes no work until it is enabled."""

import pytest

from lifecycle.exceptions import (
    Disabled,
    EngineRefused,
    StartFailed,
)
from lifecycle.models import Lease
from lifecycle.transitions.control import MAX_REASON_CHARACTERS
from tests.lifecycle.conftest import NAME, idle, leased, make_row, row, stop_idle, use
from tests.lifecycle.fake_engine import raising
from tests.lifecycle.transitions.control.conftest import ALICE, BOB, WAKE, keep_awake, stop_disabled


def test_a_start_that_needs_a_disabled_one_fails_and_names_it(lifecycle, control, engine, box, events):
    engine.add("designer-default", port="8081", needs=NAME)
    control.disable(NAME, "model key rotated", ALICE)
    with pytest.raises(StartFailed, match="needs reviewer-default: reviewer-default is disabled by alice"):
        use(lifecycle, "designer-default")
    assert events[-1][1]["cause"] == "dependency"


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


def test_idle_instances_are_told_as_idle_although_they_are_disabled(lifecycle, control, clock, box, events):
    idle(lifecycle, clock)
    control.disable(NAME, "", ALICE)
    stop_idle(lifecycle)
    assert events[-1][1]["trigger"] == "idle"
