"""Late answers, lost claims and sinks that fail: who does not own a transition changes nothing."""

import uuid

import pytest
from django.db import DatabaseError, OperationalError

from lifecycle import signals
from lifecycle.clock import Clock
from lifecycle.models import Instance, State
from tests.lifecycle.conftest import NAME, row, stop_idle, use


def take_over(**values):
    """Change a claim as another worker does that has taken it over, and perhaps settled it."""
    found = row()
    assert Instance.objects.take_over(found, owner=uuid.uuid4())
    Instance.objects.update(**values)


def test_a_late_answer_of_an_earlier_run_changes_nothing(lifecycle, engine, box, events):
    """Another worker held this one for dead, and settled its run; the start answers afterwards."""

    def settled_by_another():
        take_over(state=State.READY, incarnation=box.incarnation, probed=True, run=1)
        Instance.objects.update(owner=None)

    engine.after["start"] = [settled_by_another]
    use(lifecycle)
    assert events == []
    assert row().state == State.READY


def test_who_lost_its_claim_asks_the_engine_for_nothing(lifecycle, engine, clock, box, events):
    check = lifecycle.claims.check

    def lose_it(found):
        lifecycle.claims.check = check
        take_over(state=State.ASLEEP)
        check(found)

    lifecycle.claims.check = lose_it
    use(lifecycle)
    assert engine.count("start") == 1
    assert events.only("lazy_started")["run"] == 2


def test_who_lost_its_claim_while_it_looked_stops_nothing(lifecycle, engine, clock, box, events):
    """An inspection may wait for long; the run that another has begun meanwhile is not stopped."""
    use(lifecycle)
    clock.go(3600)
    engine.before["inspect"] = [lambda: take_over(state=State.ASLEEP)]
    stop_idle(lifecycle)
    assert engine.count("stop") == 0
    assert box.running


def test_a_worker_in_doubt_starts_nothing(lifecycle, engine, clock, box, monkeypatch):
    """It waits until it has beaten again."""
    doubts = [True] * 3 + [False] * 9
    monkeypatch.setattr(lifecycle.worker, "heartbeat_overdue", lambda: doubts.pop(0))
    began = clock.monotonic()
    use(lifecycle)
    assert engine.count("start") == 1
    assert clock.monotonic() > began


def test_a_worker_that_stays_in_doubt_says_so_to_who_waits(lifecycle, engine, box, monkeypatch):
    """A disk that is full: everything can be read, and nothing written."""
    monkeypatch.setattr(lifecycle.worker, "heartbeat_overdue", lambda: True)
    with pytest.raises(OperationalError, match="nothing could be written to the database for 30 s"):
        use(lifecycle)
    assert engine.count("start") == 0


def test_a_worker_that_comes_into_doubt_with_its_claim_starts_when_it_has_beaten(lifecycle, box, events, monkeypatch):
    """The database was locked for seconds: nobody else held it for dead, and it goes on."""
    doubts = [False, True, True]
    monkeypatch.setattr(lifecycle.worker, "heartbeat_overdue", lambda: bool(doubts) and doubts.pop(0))
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
