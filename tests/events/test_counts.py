import importlib
import os
import subprocess
import sys
from collections import Counter

import pytest
from django.apps import apps
from django.db import transaction
from django.utils import timezone

from events import counts
from events.event_types import DISPLAYS
from events.log import record
from events.models import EventCount, EventLog
from tests.servers import PROJECT, database_url, wait_for

pytestmark = pytest.mark.django_db


def counted():
    return {(row.type, row.instance, row.detail): row.count for row in EventCount.objects.all()}


def in_log():
    """Return what the log says: the kinds of all its events."""
    kinds = (counts.kind_of(event) for event in EventLog.objects.all())
    return dict(Counter((kind["type"], kind["instance"], kind["detail"]) for kind in kinds))


def test_every_type_of_dormouse_is_counted_apart():
    assert set(counts.COUNTED_BY) == set(DISPLAYS)


def test_events_are_counted_by_instance_and_by_why():
    for cause in ("exited", "oom", "exited"):
        record("container.lazy_start_failed", instance="a", data={"cause": cause})
    record("container.lazy_start_failed", instance="b", data={"cause": "exited"})
    record("work.failed", instance="a", data={"status": 502})
    assert counted() == {
        ("container.lazy_start_failed", "a", "exited"): 2,
        ("container.lazy_start_failed", "a", "oom"): 1,
        ("container.lazy_start_failed", "b", "exited"): 1,
        ("work.failed", "a", "502"): 1,
    }


def test_what_programs_record_is_counted_together():
    """They may invent types and instances without end."""
    for number in range(3):
        record(f"deploy.{number}", instance=f"app-{number}", data={"cause": str(number)})
    assert counted() == {("other", "", ""): 3}


@pytest.mark.parametrize("cause", [None, [], {"a": 1}, "x" * 1000, "\0"])
def test_odd_data_are_counted(cause):
    record("container.exited", instance="a", data={"cause": cause})
    assert sum(counted().values()) == 1


def test_a_transaction_that_is_rolled_back_counts_nothing():
    record("container.exited", instance="a", data={"cause": "oom"})
    with transaction.atomic():
        record("container.exited", instance="a", data={"cause": "oom"})
        transaction.set_rollback(True)
    assert counted() == in_log() == {("container.exited", "a", "oom"): 1}


@pytest.mark.django_db(transaction=True)
def test_pruning_lowers_no_count():
    last = [record("container.exited", instance="a", data={"cause": "oom"}) for _ in range(3)][-1]
    EventLog.objects.prune(last.id)
    assert counted() == {("container.exited", "a", "oom"): 3}


def test_the_migration_counts_what_the_log_has():
    kinds = [
        ("container.lazy_started", "a", {"trigger": "dispatch"}),
        ("container.lazy_started", "a", {}),
        ("container.lazy_started", "a", {"trigger": None}),
        ("container.lazy_stop_failed", "b", {"error": "denied"}),
        ("work.failed", "a", {"status": 502}),
        ("work.failed", "a", {"status": 502}),
        ("deploy.finished", "c", {}),
    ]
    for type, instance, data in kinds:
        EventLog.objects.create(type=type, instance=instance, data=data, at=timezone.now())
    importlib.import_module("events.migrations.0004_event_count").count_what_is_kept(apps, None)
    assert counted() == in_log()
    assert counted()["container.lazy_started", "a", ""] == 2


def test_the_migration_counts_as_the_code_does():
    migration = importlib.import_module("events.migrations.0004_event_count")
    assert migration.COUNTED_BY == counts.COUNTED_BY


RECORDS_FOR_EVER = """
from events.log import record
while True:
    record("container.exited", instance="a", data={"cause": "oom"})
    record("deploy.finished")
"""


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.django_db(transaction=True)
def test_counts_agree_with_the_log_after_sigkill():
    for round in range(1, 4):
        process = subprocess.Popen(
            [sys.executable, "manage.py", "shell", "--no-imports", "-c", RECORDS_FOR_EVER],
            cwd=PROJECT,
            env=os.environ | {"DATABASE_URL": database_url()},
        )
        wait_for(lambda: EventLog.objects.count() >= 40 * round or process.poll() is not None, what="events")  # noqa: B023
        process.kill()
        process.wait()
        assert counted() == in_log()
        assert sum(counted().values()) >= 40 * round
