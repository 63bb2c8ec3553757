"""A SQLite database whose file changes under a running Dormouse: everything notices, and uses the new file."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import httpx
import pytest

from access.database import NOT_MIGRATED
from events.models import LOG_RESTORED
from tests.events.stream.listening import listening
from tests.servers import PROJECT, Server, wait_for

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif("DORMOUSE_TEST_DATABASE_URL" in os.environ, reason="SQLite alone is a file"),
]
RECORD = "from events.log import record; print(record('a.b').id)"


#: SQLite itself says this of a disk that is full.
REFUSE = """CREATE TRIGGER refuse BEFORE UPDATE ON lifecycle_worker
BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"""


class Site:
    """A web process with its supervisor, on a database of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.database = folder / "var" / "db.sqlite3"
        self.environment = {
            "DATABASE_URL": f"sqlite:///{self.database}",
            "DORMOUSE_VAR_DIR": str(folder / "var"),
            "DORMOUSE_SUPERVISOR": "embedded",
        }
        self.server = None

    def manage(self, *arguments):
        command = [sys.executable, "manage.py", *arguments]
        environment = os.environ | self.environment
        run = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        return run.stdout

    def serve(self):
        self.server = Server(self.environment, self.folder / "log").wait_until_up()
        return self.server

    def record(self):
        return int(self.manage("shell", "--no-imports", "-c", RECORD))

    def copy(self, name):
        """Copy the database as a backup does."""
        path = self.folder / name
        with closing(sqlite3.connect(self.database)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        return path

    def ask(self, statement):
        with closing(sqlite3.connect(self.database)) as database:
            return [row[0] for row in database.execute(statement)]

    def get(self, path):
        return httpx.get(self.server.url + path, headers=self.server.bearer, timeout=60)

    def log(self):
        return (self.folder / "log").read_text()


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.manage("migrate", "--verbosity", "0")
    yield site
    if site.server:
        site.server.stop()


def restore_in_place(site, backup):
    """Write the older copy into the database, through SQLite."""
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(site.database, timeout=60)) as target:
        source.backup(target)


def put_another_file_in_its_place(site, backup):
    for suffix in ("-wal", "-shm"):
        site.database.with_name(site.database.name + suffix).unlink(missing_ok=True)
    backup.replace(site.database)


def delete_and_copy(site, backup):
    for suffix in ("-wal", "-shm", ""):
        site.database.with_name(site.database.name + suffix).unlink(missing_ok=True)
    wait_for(lambda: site.get("/healthz").status_code == 503, what="the health check")
    assert not site.database.exists()
    shutil.copy(backup, site.database)


@contextmanager
def heartbeats_arrive(site):
    """Fail if the heartbeats of the web process do not arrive in the database that is there at the end of the block."""
    yield
    seen = site.ask("SELECT max(beat) FROM lifecycle_worker WHERE kind = 'web'")
    wait_for(lambda: site.ask("SELECT max(beat) FROM lifecycle_worker WHERE kind = 'web'") > seen, what="a heartbeat")


@pytest.mark.parametrize("change", [restore_in_place, put_another_file_in_its_place, delete_and_copy])
def test_every_part_goes_on_with_what_is_there_now(site, change):
    site.record()
    site.serve()
    wait_for(lambda: site.ask("SELECT 1 FROM lifecycle_enginesight"), what="the first sweep")
    backup = site.copy("backup.sqlite3")
    with heartbeats_arrive(site):
        change(site, backup)
        wait_for(lambda: site.get("/healthz").status_code == 200, what="the health check")
        new = site.record()
        assert site.get("/api/instances").status_code == 200
    with listening(site.server, "?after=0") as messages:
        wait_for(lambda: next(messages).id == str(new), what="the new event")
    asked = site.ask("SELECT asked FROM lifecycle_enginesight")
    wait_for(lambda: site.ask("SELECT asked FROM lifecycle_enginesight") > asked, what="a sweep")
    assert "Traceback" not in site.log()


@pytest.mark.parametrize("change", [restore_in_place, put_another_file_in_its_place])
def test_a_connected_reader_is_told_which_events_are_gone(site, change):
    server = site.serve()
    kept = site.record()
    backup = site.copy("backup.sqlite3")
    last = [site.record() for _ in range(3)][-1]
    with listening(server, f"?after={last}") as messages:
        assert next(messages).event == "stream-open"
        change(site, backup)
        reset, restored = next(messages), next(messages)
        assert (reset.event, reset.id) == ("stream-reset", str(kept))
        assert json.loads(restored.data) | {"at": ""} == {"from": kept + 1, "to": last, "at": ""}
        assert site.record() > last


def test_a_returning_reader_is_told_if_the_log_was_restored_at_rest(site):
    server = site.serve()
    kept = site.record()
    backup = site.copy("backup.sqlite3")
    last = [site.record() for _ in range(3)][-1]
    server.stop()
    put_another_file_in_its_place(site, backup)
    assert site.record() > last  # another process, which knows the mark from the file
    server.start().wait_until_up()
    with listening(server, f"?after={last}") as messages:
        assert [next(messages).event for _ in range(2)] == ["stream-open", "stream-reset"]
    with listening(server, f"?after={kept}") as messages:
        assert [next(messages).event for _ in range(3)] == ["stream-open", LOG_RESTORED, "a.b"]


def test_a_database_that_cannot_be_written_is_said_and_heals(site):
    site.serve()
    wait_for(lambda: site.ask("SELECT 1 FROM lifecycle_worker"), what="the supervisor")
    with closing(sqlite3.connect(site.database, timeout=60, isolation_level=None)) as other:
        other.execute(REFUSE)
        wait_for(lambda: site.get("/healthz").status_code == 503, what="the health check")
        assert site.get("/healthz").text == "The database cannot be written.\n"
        assert site.get("/readyz").status_code == 503
        assert "database or disk is full" in site.get("/agents/instances").text
        other.execute("DROP TRIGGER refuse")
    wait_for(lambda: site.get("/healthz").status_code == 200, what="the health check")
    assert "database or disk is full" not in site.get("/agents/instances").text
    assert site.log().count("could not be written") == 1


def test_a_database_that_is_not_migrated_is_said_everywhere_without_a_traceback(tmp_path):
    site = Site(tmp_path)
    server = site.serve()
    try:
        assert (site.get("/readyz").status_code, site.get("/readyz").text) == (503, NOT_MIGRATED + "\n")
        api = site.get("/api/instances")
        assert (api.status_code, api.headers["Content-Type"]) == (503, "application/problem+json")
        assert site.get("/agents/").status_code == 503
        assert site.get("/events").status_code == 503
        assert site.log().count("The supervisor waits for the database") == 1
        assert site.log().count("The event log cannot be followed") == 1
        site.manage("migrate", "--verbosity", "0")
        wait_for(lambda: site.get("/readyz").status_code == 200, what="the migrated database")
        new = site.record()
        with listening(server, "?after=0") as messages:
            wait_for(lambda: next(messages).id == str(new), what="the new event")
        assert "Traceback" not in site.log()
    finally:
        server.stop()


@pytest.mark.parametrize(
    "behind", [("lifecycle", "0016"), ("events", "0003"), ("telling", "zero")], ids=lambda one: one[0]
)
def test_a_database_of_the_version_before_is_said_without_a_traceback(site, behind):
    first = site.record()
    site.manage("migrate", *behind, "--verbosity", "0")
    site.serve()
    assert (site.get("/readyz").status_code, site.get("/readyz").text) == (503, NOT_MIGRATED + "\n")
    site.get("/agents/")
    site.get("/events/")
    assert "Traceback" not in site.log()
    site.manage("migrate", "--verbosity", "0")
    wait_for(lambda: site.get("/readyz").status_code == 200, what="the migrated database")
    with listening(site.server, "?after=0") as messages:
        wait_for(lambda: next(messages).id == str(first), what="the event of before")
    assert "Traceback" not in site.log()
