"""`manage.py backup` makes a whole, private copy while others write."""

import sqlite3
import stat
import threading
from contextlib import closing

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections

from events.log import record
from events.management.commands import backup
from events.models import EventLog

pytestmark = pytest.mark.django_db(transaction=True)
only_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="tests/postgres tests it with PostgreSQL")


def ids_in(path):
    with closing(sqlite3.connect(path)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [id for (id,) in copy.execute("SELECT id FROM event_log ORDER BY id")]


@only_sqlite
def test_a_copy_made_under_writes_is_a_whole_beginning_of_the_log(tmp_path):
    before = [record("a.b").id for _ in range(3)]
    ended = threading.Event()

    def write():
        while not ended.is_set():
            record("a.b")
        connections.close_all()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        call_command("backup", str(tmp_path / "copy"))
    finally:
        ended.set()
        writer.join()
    copied = ids_in(tmp_path / "copy")
    assert copied[:3] == before
    assert copied == list(EventLog.objects.order_by("id").values_list("id", flat=True)[: len(copied)])


@only_sqlite
def test_only_its_owner_can_read_the_copy_and_it_is_one_file(tmp_path):
    call_command("backup", str(tmp_path / "copy"))
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_exists_is_refused_and_kept(tmp_path, kind):
    target = tmp_path / "copy"
    {
        "file": lambda: target.write_text("mine"),
        "folder": target.mkdir,
        "link": lambda: target.symlink_to("nowhere"),
    }[kind]()
    with pytest.raises(CommandError, match="exists already"):
        call_command("backup", str(target))
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    assert kind != "file" or target.read_text() == "mine"


def test_a_file_that_another_program_makes_meanwhile_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(backup, "copy_sqlite", lambda path: (tmp_path / "copy").write_text("mine"))
    monkeypatch.setattr(backup, "dump_postgresql", lambda path: (tmp_path / "copy").write_text("mine"))
    with pytest.raises(CommandError, match="exists already"):
        call_command("backup", str(tmp_path / "copy"))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(CommandError, match=r"none/copy could not be made: .*No such file"):
        call_command("backup", str(tmp_path / "none" / "copy"))


@only_sqlite
def test_a_copy_that_fails_leaves_no_file(tmp_path, monkeypatch):
    def fail(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup, "copy_sqlite", fail)
    with pytest.raises(CommandError, match="No space left"):
        call_command("backup", str(tmp_path / "copy"))
    assert list(tmp_path.iterdir()) == []
