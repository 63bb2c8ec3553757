from datetime import UTC, datetime

import pytest
from django.db import transaction

from events.models import EventLog
from lifecycle.signals import lazy_start_failed, lazy_started, lazy_stop_failed, lazy_stopped, send, work_failed

pytestmark = pytest.mark.django_db
AT = datetime(2026, 11, 23, 18, 55, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("signal", "type", "data"),
    [
        (lazy_started, "container.lazy_started", {"latency_ms": 287, "run": 7, "start_ms": 240, "ready_ms": 47}),
        (lazy_stopped, "container.lazy_stopped", {"idle_seconds": 900, "run": 7, "recovered": True}),
        (lazy_stop_failed, "container.lazy_stop_failed", {"error": "denied", "idle_seconds": 900, "run": 7}),
        (lazy_start_failed, "container.lazy_start_failed", {"error": "exited", "run": 7, "cause": "exited"}),
        (work_failed, "work.failed", {"error": "answered 500 after 2 s", "status": 500, "seconds": 2.1, "count": 7}),
    ],
)
def test_a_signal_becomes_a_row(signal, type, data):
    send(signal, instance="reviewer-default", at=AT, **data)
    row = EventLog.objects.get()
    assert (row.type, row.instance, row.at) == (type, "reviewer-default", AT)
    assert row.data == {"instance": "reviewer-default"} | data


@transaction.atomic
def stop_an_instance():
    EventLog.objects.create(type="the.transition", at=AT)
    send(lazy_stopped, instance="reviewer-default", idle_seconds=1, run=1, at=AT)


def test_a_failure_of_the_log_is_raised_and_rolls_back(monkeypatch):
    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("events.receivers.record", fail)
    with pytest.raises(ZeroDivisionError):
        stop_an_instance()
    assert not EventLog.objects.exists()


def test_a_failure_of_a_strangers_receiver_is_passed_over():
    def fail(**kwargs):
        raise ZeroDivisionError

    lazy_stopped.connect(fail)
    try:
        send(lazy_stopped, instance="reviewer-default", idle_seconds=1, run=1, at=AT)
    finally:
        lazy_stopped.disconnect(fail)
    assert EventLog.objects.get().type == "container.lazy_stopped"
