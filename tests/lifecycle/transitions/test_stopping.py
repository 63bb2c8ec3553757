"""Which instances are stopped, when, and which never are."""

import pytest

from lifecycle.exceptions import EngineUnreachable
from lifecycle.state_machine import State
from tests.lifecycle.conftest import NAME, idle, leased, recover, row, stop_idle, use
from tests.lifecycle.fake_engine import raising


def test_an_idle_instance_is_stopped_and_then_that_is_reported(lifecycle, engine, clock, box, events):
    idle(lifecycle, clock, 75)
    events.clear()
    told = []
    engine.after["stop"] = [lambda: told.extend(events.types)]
    stop_idle(lifecycle)
    assert (box.running, told) == (False, [])
    assert events.only("lazy_stopped") == {"instance": NAME, "run": 1, "idle_seconds": 75, "trigger": "idle"}
    assert row().state == State.ASLEEP


def test_an_instance_that_worked_within_its_timeout_is_not_stopped(lifecycle, engine, clock, box):
    idle(lifecycle, clock, 59)
    stop_idle(lifecycle)
    assert box.running


def test_the_idle_time_begins_with_the_end_of_the_work(lifecycle, clock, box):
    with leased(lifecycle):
        clock.go(3600)
    stop_idle(lifecycle)
    assert box.running


def test_a_timeout_of_zero_is_never(lifecycle, engine, clock, events):
    box = engine.add(NAME, idle_timeout="0", port="8080")
    idle(lifecycle, clock, 10**6)
    stop_idle(lifecycle)
    assert box.running


def test_an_instance_at_work_is_never_stopped(lifecycle, clock, box):
    with leased(lifecycle):
        clock.go(10**6)
        stop_idle(lifecycle)
        assert box.running


def test_a_stop_that_meets_a_lease_claims_nothing(lifecycle, engine, clock, box, events):
    """The lease comes after the stop has read the leases."""
    idle(lifecycle, clock)
    events.clear()
    stop = lifecycle.claims.claim_stop
    grants = []

    def lease_first(*claim):
        grants.append(lifecycle.leases.take(NAME))
        return stop(*claim)

    lifecycle.claims.claim_stop = lease_first
    stop_idle(lifecycle)
    assert grants != [None]
    assert (box.running, events) == (True, [])
    assert row().state == State.READY


def test_no_lease_is_taken_of_one_that_is_being_stopped(lifecycle, engine, clock, box):
    idle(lifecycle, clock)
    grants = []
    engine.before["stop"] = [lambda: grants.append(lifecycle.leases.take(NAME))]
    stop_idle(lifecycle)
    assert grants == [None]


def test_an_idle_clock_in_the_future_is_set_to_now(lifecycle, clock, box):
    use(lifecycle)
    clock.set_back(3600)
    stop_idle(lifecycle)
    assert row().last_used == clock.now()
    clock.go(60)
    stop_idle(lifecycle)
    assert not box.running


def test_a_stop_that_the_engine_did_not_answer_is_settled_later(lifecycle, engine, clock, box, events):
    idle(lifecycle, clock, 75)
    events.clear()
    engine.before["stop"] = [raising(EngineUnreachable("timed out"))]
    with pytest.raises(EngineUnreachable):
        stop_idle(lifecycle)
    assert (row().state, events) == (State.STOPPING, [])
    recover(lifecycle)
    assert events.only("lazy_stopped") == {"instance": NAME, "run": 1, "idle_seconds": 75, "trigger": "idle"}
    assert not box.running


def test_a_stop_keeps_to_the_grace_of_the_label(lifecycle, engine, clock, box):
    box.labels["dormouse.stop-timeout"] = "2m"
    graces = []
    stop = engine.stop
    engine.stop = lambda name, grace: (graces.append(grace), stop(name, grace))
    idle(lifecycle, clock)
    stop_idle(lifecycle)
    assert graces == [120]


def test_a_worker_whose_heartbeat_fails_ends_no_leases(lifecycle, engine, box, clock, events):
    with leased(lifecycle):
        clock.listeners.clear()  # the database is locked: there is no beat
        for _ in range(60):
            clock.go(1)
            recover(lifecycle)
        lifecycle.worker.send_heartbeat()
        recover(lifecycle)
        stop_idle(lifecycle)
    assert events.types == ["lazy_started"]


def test_another_container_that_has_got_its_name_is_not_stopped(lifecycle, engine, clock, box, events):
    idle(lifecycle, clock, 75)
    events.clear()
    (claimed,) = lifecycle.stopping.find_idle()
    claimed.incarnation = "the-renamed-one@2026-11-26T13:00:00Z"
    lifecycle.stopping.stop_idle(claimed)
    assert (box.running, engine.count("stop"), events) == (True, 0, [])
    assert (row().state, row().last_used) == (State.READY, clock.now())
