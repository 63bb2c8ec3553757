"""The database itself keeps history as it is."""

import shutil

import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction

from events.integrity import triggers
from events.log import record
from events.models import EventLog, LogFloor
from tests.servers import PROJECT

VALUES = "INTO event_log (id, type, instance, data, at) VALUES ({id}, 'forged', '', '{{}}', '2026-01-01 00:00:00')"
OF_ITS_OWN = {
    "sqlite": [
        *(f"{verb} {VALUES}" for verb in ("INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE", "INSERT OR FAIL")),
        "UPDATE OR REPLACE event_log SET type = 'forged'",
    ],
    "postgresql": ["TRUNCATE event_log", "DELETE FROM ONLY event_log"],
}
LATER = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("events", "{before}")]
    operations = [
        migrations.AlterField("eventlog", "type", models.CharField(max_length=120)),
        migrations.AlterField("logfloor", "floor", models.BigIntegerField()),
    ]
"""


def execute(statement, *values):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, values or None)


def refused(statement, *values):
    with pytest.raises((DatabaseError, IntegrityError), match=triggers.REFUSAL):
        execute(statement, *values)


def trigger_names():
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = 'event_log'::regclass AND NOT tgisinternal")
        else:
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'event_log'")
        return {name for (name,) in cursor.fetchall()}


@pytest.fixture
def row(db):
    return record("a.b", data={"kept": True})


def still_there(row):
    return EventLog.objects.get(id=row.id).data == {"kept": True}


@pytest.mark.parametrize("change", ["type = 'forged'", "data = '{}'", "id = id + 1000", "at = '2020-01-01 00:00:00'"])
def test_an_update_is_refused(row, change):
    refused(f"UPDATE event_log SET {change}")
    assert still_there(row)


def test_a_change_by_the_orm_is_refused(row):
    row.type = "forged"
    with pytest.raises(DatabaseError), transaction.atomic():
        row.save()
    with pytest.raises(DatabaseError), transaction.atomic():
        EventLog.objects.update(type="forged")
    assert still_there(row)


def test_a_delete_is_refused(row):
    refused("DELETE FROM event_log")
    refused("DELETE FROM event_log WHERE id = %s", row.id)
    with pytest.raises(DatabaseError), transaction.atomic():
        row.delete()
    assert still_there(row)


def test_an_id_that_exists_cannot_be_written_again(row):
    with pytest.raises(DatabaseError):
        execute(f"INSERT {VALUES}".format(id=row.id))
    refused(f"INSERT {VALUES} ON CONFLICT (id) DO UPDATE SET type = 'forged'".format(id=row.id))
    assert still_there(row)


@pytest.mark.parametrize("statement", OF_ITS_OWN[connection.vendor])
def test_what_only_this_database_can_say_is_refused(row, statement):
    refused(statement.format(id=row.id))
    assert still_there(row)


@pytest.mark.django_db(transaction=True)
def test_only_what_is_below_the_floor_can_be_deleted():
    first, second = record("a.b"), record("a.b")
    LogFloor.raise_to(first.id)
    refused("DELETE FROM event_log")
    execute("DELETE FROM event_log WHERE id <= %s", first.id)
    assert list(EventLog.objects.values_list("id", flat=True)) == [second.id]


def test_the_floor_is_never_lowered(transactional_db):
    LogFloor.raise_to(7)
    LogFloor.raise_to(3)
    assert LogFloor.now() == 7


@pytest.fixture
def later_migration(transactional_db, settings, tmp_path, monkeypatch):
    """The migrations of the log, and one that comes some day; taken back afterwards."""
    package = tmp_path / "migrations_of_some_day"
    shutil.copytree(PROJECT / "events" / "migrations", package, ignore=shutil.ignore_patterns("__pycache__"))
    last = max(path.stem for path in package.glob("0*.py"))
    (package / "9999_later.py").write_text(LATER.format(before=last))
    monkeypatch.syspath_prepend(tmp_path)
    settings.MIGRATION_MODULES = {"events": package.name}
    yield
    call_command("migrate", "events", last, verbosity=0)


def test_a_later_migration_leaves_the_log_append_only(later_migration):
    before = trigger_names()
    row = record("a.b", data={"kept": True})
    LogFloor.raise_to(row.id - 1)
    call_command("migrate", verbosity=0)
    assert trigger_names() == before != set()
    refused("UPDATE event_log SET type = 'forged'")
    refused("DELETE FROM event_log")
    assert still_there(row)


def test_a_migrate_puts_back_what_is_missing(transactional_db):
    before = trigger_names()
    triggers.remove()
    assert trigger_names() == set()
    call_command("migrate", verbosity=0)
    assert trigger_names() == before


def test_the_log_can_go_and_come_back_by_migrations(transactional_db):
    before = trigger_names()
    call_command("migrate", "events", "zero", verbosity=0)
    call_command("migrate", verbosity=0)
    assert trigger_names() == before
    assert record("a.b").id
