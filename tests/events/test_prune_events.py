"""The oldest events are removed; the rest of the log and its readers miss nothing."""

import os
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from events import models
from events.log import record
from events.models import EventLog, LogFloor

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_free_space(transactional_db):
    """Give back what other tests have left free in the file: the command says how much is free."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")


def aged(*days):
    now = timezone.now()
    return [record("a.b", at=now - timedelta(days=n)).id for n in days]


def prune(*arguments):
    said = StringIO()
    call_command("prune_events", *arguments, stdout=said)
    return said.getvalue()


def kept():
    return list(EventLog.objects.order_by("id").values_list("id", flat=True))


def test_what_is_older_goes():
    ids = aged(200, 100, 80, 0)
    assert prune("--older-than", "90d") == "Events removed: 2.\n"
    assert kept() == ids[2:]
    assert LogFloor.now() == ids[1]


def test_a_dry_run_removes_nothing_and_says_how_much_would_go():
    ids = aged(200, 100, 0)
    assert prune("--older-than", "90d", "--dry-run") == "Events that would be removed: 2.\n"
    assert kept() == ids
    assert LogFloor.now() == 0


def test_only_a_prefix_goes_whatever_the_clocks_did():
    ids = aged(200, 10, 150, 0)
    prune("--older-than", "90d")
    assert kept() == ids[1:]


def test_an_event_in_the_future_stops_no_prune_and_is_told():
    ids = aged(200, -4000, 150, 100, 0, -4000)
    said = prune("--older-than", "90d")
    assert said.startswith(
        f"Events removed: 4.\nEvents that are stamped in the future: 1, the first with the id {ids[5]}"
    )
    assert kept() == ids[4:]


def test_an_event_in_the_future_is_kept_with_its_neighbours():
    ids = aged(200, -4000, 10, 0)
    assert prune("--older-than", "90d").startswith("Events removed: 1.\n")
    assert kept() == ids[1:]


@pytest.mark.skipif("DORMOUSE_TEST_DATABASE_URL" in os.environ, reason="SQLite alone is a file")
def test_the_file_shrinks_if_that_is_asked_for():
    ids = [record("a.b", data={"text": "x" * 60_000}, at=timezone.now() - timedelta(days=9)).id for _ in range(60)]
    assert "MB of the file are free" in prune("--older-than", "1d")
    path = Path(connection.settings_dict["NAME"])
    before = path.stat().st_size
    assert "free" not in prune("--older-than", "1d", "--shrink")
    assert path.stat().st_size < before - 3_000_000
    assert record("a.b").id > ids[-1]


def test_all_of_it_may_go_and_the_ids_go_on():
    ids = aged(3, 2, 1)
    prune("--older-than", "1s")
    assert kept() == []
    assert EventLog.objects.bounds() == (0, ids[-1])
    assert record("a.b").id > ids[-1]


def test_nothing_goes_twice_and_a_younger_age_goes_further():
    ids = aged(9, 5, 1)
    assert [prune("--older-than", age) for age in ("7d", "7d", "2d")] == [
        "Events removed: 1.\n",
        "Events removed: 0.\n",
        "Events removed: 1.\n",
    ]
    assert kept() == ids[2:]


def test_an_empty_log_can_be_pruned():
    assert prune("--older-than", "1d") == "Events removed: 0.\n"


def test_it_goes_in_batches_and_the_floor_is_committed_first(monkeypatch):
    monkeypatch.setattr(models, "PRUNE_BATCH_ROWS", 2)
    ids = aged(*[9] * 5, 0)
    floors = []
    monkeypatch.setattr(time, "sleep", lambda seconds: floors.append((LogFloor.now(), len(kept()))))
    prune("--older-than", "1d")
    assert floors == [(ids[4], 4), (ids[4], 2), (ids[4], 1)]


def test_a_prune_that_was_killed_is_finished_by_the_next():
    ids = aged(9, 9, 9, 0)
    LogFloor.raise_to(ids[2])
    assert EventLog.objects.bounds() == (ids[3], ids[3])
    assert prune("--older-than", "1d") == "Events removed: 3.\n"


def test_it_is_not_done_inside_a_transaction():
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        EventLog.objects.prune(1)


@pytest.mark.parametrize("age", ["90", "d", "-1d", "1w", "1.5d", "", "999999d", "٣d"])
def test_what_is_no_age_is_refused(age):
    with pytest.raises(CommandError, match="is no age"):
        prune(f"--older-than={age}")


@pytest.mark.parametrize("age", ["99999d", "12h", "30m", "45s"])
def test_an_age(age):
    aged(0)
    assert prune("--older-than", age) == "Events removed: 0.\n"


def test_the_age_must_be_given():
    with pytest.raises(CommandError):
        prune()


@pytest.mark.parametrize(
    "path", ["/agents/", "/agents/activity?after={old}", "/agents/?before={old}", "/admin/events/eventlog/"]
)
def test_the_page_and_the_audit_go_on(admin_client, path):
    old, new = aged(100, 0)
    prune("--older-than", "90d")
    page = admin_client.get(path.format(old=old))
    assert page.status_code == 200
    assert f'/{old}"' not in page.content.decode()
    assert admin_client.get(f"/agents/activity/{old}").status_code == 404
    assert admin_client.get(f"/agents/activity/{new}").status_code == 200


def test_the_log_knows_its_bounds_in_every_state():
    assert EventLog.objects.bounds() == (0, 0)
    first, second = aged(1, 1)
    assert EventLog.objects.bounds() == (first, second)
    EventLog.objects.prune(first)
    assert EventLog.objects.bounds() == (second, second)
    EventLog.objects.prune(second)
    assert EventLog.objects.bounds() == (0, second)


def test_rows_come_with_the_floor_in_one_statement(django_assert_num_queries):
    first, second = aged(1, 1)
    EventLog.objects.prune(first)
    with django_assert_num_queries(1):
        rows, floor = EventLog.objects.after(0)[:10].read()
    assert ([row.id for row in rows], floor) == ([second], first)
    assert EventLog.objects.after(second)[:10].read() == ([], first)
