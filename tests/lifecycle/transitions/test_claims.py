"""Late answers, lost claims and sinks that fail: a worker that does not own a transition changes nothing."""

import uuid

import pytest
from django.db import DatabaseError, OperationalError

from lifecycle import signals
from lifecycle.clock import Clock
from lifecycle.models import Instance
from lifecycle.state_machine import State
from tests.lifecycle.conftest import NAME, row, stop_idle, use


def take_over(**values):
    """Change a claim as another worker does that has taken it over, and perhaps settled it."""
    found = row()
    assert Instance.objects.take_over(found, owner=uuid.uuid4())
    Instance.objects.update(**values)


def test_a_late_answer_of_an_earlier_run_changes_nothing(lifecycle, engine, box, events):
    """Another worker took this one for dead and settled its run; the start answers afterwards."""

    def settled_by_another():
        take_over(state=State.READY, incarnation=box.incarnation, probed=True, run=1)
        Instance.objects.update(owner=None)

    engine.after["start"] = [settled_by_another]
    use(lifecycle)
    assert events == []
    assert row().state == State.READY


def test_a_worker_that_lost_its_claim_asks_the_engine_for_nothing(lifecycle, engine, clock, box, events):
    check = lifecycle.claims.check

    def lose_it(found):
        lifecycle.claims.check = check
        take_over(state=State.ASLEEP)
        check(found)

    lifecycle.claims.check = lose_it
    use(lifecycle)
    assert engine.count("start") == 1
    assert events.only("lazy_started")["run"] == 2


def test_a_worker_that_lost_its_claim_during_an_inspection_stops_nothing(lifecycle, engine, clock, box, events):
    """An inspection may wait for long; the run that another has begun meanwhile is not stopped."""
    use(lifecycle)
    clock.go(3600)
    engine.before["inspect"] = [lambda: take_over(state=State.ASLEEP)]
    stop_idle(lifecycle)
    assert engine.count("stop") == 0
    assert box.running


def test_a_worker_with_an_overdue_heartbeat_starts_nothing_until_it_succeeds(
    lifecycle, engine, clock, box, monkeypatch
):
    """It waits until a heartbeat has succeeded."""
    overdue = [True] * 3 + [False] * 9
    monkeypatch.setattr(lifecycle.worker, "heartbeat_overdue", lambda: overdue.pop(0))
    began = clock.monotonic()
    use(lifecycle)
    assert engine.count("start") == 1
    assert clock.monotonic() > began


def test_a_dispatch_fails_if_the_heartbeat_stays_overdue(lifecycle, engine, box, monkeypatch):
    """A disk that is full: everything can be read, and nothing written."""
    monkeypatch.setattr(lifecycle.worker, "heartbeat_overdue", lambda: True)
    with pytest.raises(OperationalError, match="nothing could be written to the database for 30 s"):
        use(lifecycle)
    assert engine.count("start") == 0


def test_a_claim_is_kept_if_the_heartbeat_is_overdue_for_a_moment(lifecycle, box, events, monkeypatch):
    """The database was locked for seconds. No other worker took this one for dead, so it goes on."""
    overdue = [False, True, True]
    monkeypatch.setattr(lifecycle.worker, "heartbeat_overdue", lambda: bool(overdue) and overdue.pop(0))
    use(lifecycle)
    assert events.only("lazy_started")["run"] == 1


def test_what_cannot_be_committed_is_tried_until_it_lands_once(lifecycle, box, events):
    events.troubles = [DatabaseError("locked"), DatabaseError("locked")]
    use(lifecycle)
    assert events.types == ["lazy_started"]
    assert row().state == State.READY


def test_a_failing_sink_rolls_the_transition_back_and_it_is_settled_once(lifecycle, box, events):
    events.troubles = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        use(lifecycle)
    assert (row().state, events) == (State.STARTING, [])
    use(lifecycle)
    assert events.types == ["lazy_started"]


def test_an_error_of_the_logs_own_receiver_is_raised(lifecycle, box):
    def receiver(**data):
        raise ZeroDivisionError

    receiver.durable = True  # type: ignore[attr-defined]
    signals.lazy_started.connect(receiver)
    try:
        with pytest.raises(ZeroDivisionError):
            signals.send(signals.lazy_started, instance=NAME, at=Clock().now())
    finally:
        signals.lazy_started.disconnect(receiver)
