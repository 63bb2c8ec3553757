"""Work that failed is told at most once a minute for an instance and status, and each failure is counted once."""

import threading

import pytest
from django.db import DatabaseError, connections

from lifecycle.clock import as_text
from lifecycle.models import WorkFailure
from lifecycle.transitions.work_failures import WorkFailures
from tests.lifecycle.conftest import NAME, row, use
from tests.servers import wait_for

DATA = {"error": "broke off after 12 s", "status": 502, "seconds": 12.0}


@pytest.fixture
def failures(lifecycle):
    return lifecycle.work_failures


def fail(failures, times=1, status=502, name=NAME):
    for _ in range(times):
        failures.count(name, status, 1, DATA | {"status": status})


def counts(events):
    return [data.get("count", 1) for type, data in events if type == "work_failed"]


def test_the_first_failure_is_told_at_once(failures, events):
    fail(failures)
    assert events.only("work_failed") == {"instance": NAME} | DATA


def test_the_row_keeps_the_latest_one(lifecycle, failures, box, clock):
    use(lifecycle)
    fail(failures, status=500)
    clock.go(1)
    fail(failures)
    assert row().work_failure == {"at": as_text(clock.now()), "error": DATA["error"], "status": 502}


def test_the_next_ones_of_a_minute_are_told_together_when_it_is_over(failures, events, clock):
    fail(failures, 4)
    clock.go(59)
    failures.tell_due()
    assert counts(events) == [1]
    clock.go(1)
    failures.tell_due()
    failures.tell_due()
    assert counts(events) == [1, 3]


def test_a_failure_after_the_minute_tells_what_was_counted_before(failures, events, clock):
    fail(failures, 3)
    clock.go(60)
    fail(failures)
    assert counts(events) == [1, 3]


def test_each_status_and_each_instance_has_its_own_minute(failures, events):
    fail(failures, 2)
    fail(failures, 2, status=504)
    fail(failures, 2, name="designer-default")
    assert counts(events) == [1, 1, 1]


def test_a_clock_that_was_set_back_silences_nothing(failures, events, clock):
    fail(failures)
    clock.set_back(3600)
    fail(failures)
    assert counts(events) == [1, 1]


def test_nothing_is_kept_of_failures_that_are_over(failures, clock):
    fail(failures)
    clock.go(60)
    failures.tell_due()
    assert not WorkFailure.objects.exists()


def test_a_failure_that_the_log_refuses_is_counted_by_none(failures, events):
    events.troubles = [DatabaseError("the disk is full")]
    with pytest.raises(DatabaseError):
        fail(failures)
    fail(failures)
    assert counts(events) == [1]


@pytest.mark.django_db(transaction=True)
def test_two_processes_tell_one_event(clock, events):
    """Eight writers, as many processes, count 20 failures each: one event, and the other 159 are kept for the next."""

    def work():
        fail(WorkFailures(clock, events), 20)
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(events) == [1]
    clock.go(60)
    WorkFailures(clock, events).tell_due()
    assert counts(events) == [1, 159]


@pytest.mark.django_db(transaction=True)
def test_what_is_reported_is_written_soon_and_the_rest_at_the_end(clock, events):
    failures = WorkFailures(clock, events)
    for _ in range(400):
        failures.report(NAME, status=500, error="answered 500\0", seconds=0.00012)
    wait_for(lambda: events)
    failures.shut_down()
    told = counts(events)[0]
    assert told + WorkFailure.objects.get().count == 400
    assert events[0][1]["error"] == "answered 500\N{REPLACEMENT CHARACTER}"
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "work failures"])


@pytest.mark.django_db(transaction=True)
def test_a_database_that_does_not_answer_for_a_moment_loses_nothing(clock, events):
    events.troubles = [DatabaseError("locked")]
    failures = WorkFailures(clock, events)
    failures.report(NAME, status=500, error="answered 500", seconds=1)
    wait_for(lambda: counts(events) == [1])
    failures.shut_down()
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "work failures"])


def test_a_success_while_a_failure_is_written_is_not_overwritten_by_it(lifecycle, box, clock):
    use(lifecycle)

    def succeed(*event, **data):
        ours.note_success(NAME)

    ours = WorkFailures(clock, succeed)
    ours._is_writing = True  # so that no thread writes, too
    ours.report(NAME, status=500, error="answered 500", seconds=1)
    ours._write()
    assert row().work_failure is None
