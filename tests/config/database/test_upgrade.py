"""A database of the first version is upgraded under its readers and dispatches, and that version goes on with it.

So going back is possible. The long form (DORMOUSE_LONG=1) has a million events, and prints how long callers were held
up.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.config.agents import agents_file
from tests.conftest import need
from tests.postgres.cluster import Cluster, programs
from tests.servers import PROJECT, Server, wait_for

pytestmark = [pytest.mark.server, pytest.mark.slow]
#: The last commit of version 0.1.0.
FIRST = "35ecbdb4c2c471195034a6adb5689b84c5a20985"
EVENTS = 1_000_000 if os.environ.get("DORMOUSE_LONG") else 500
TYPES = "(CASE n % 4 WHEN 0 THEN 'container.lazy_started' WHEN 1 THEN 'container.lazy_stopped' ELSE 'work.failed' END)"
#: What fills the log. The events look as a year of a hundred agents would.
FILL = {
    "sqlite": f"""
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {EVENTS})
        INSERT INTO event_log (type, instance, data, at)
        SELECT {TYPES}, 'agent-' || n % 100, '{{"trigger": "dispatch", "status": 502, "run": 7, "latency_ms": 287}}',
            datetime('2026-01-01', (n * 30) || ' seconds') FROM numbers""",
    "postgresql": f"""
        INSERT INTO event_log (type, instance, data, at)
        SELECT {TYPES}, 'agent-' || n % 100, '{{"trigger": "dispatch", "status": 502, "run": 7, "latency_ms": 287}}',
            timestamptz '2026-01-01 00:00Z' + n * interval '30 seconds' FROM generate_series(1, {EVENTS}) AS n""",
}
#: Fills the log, without its code, which would take an hour for a million events.
FILLER = f"""
import django

django.setup()
from django.db import connection

with connection.cursor() as cursor:
    cursor.execute({FILL!r}[connection.vendor])
    cursor.execute("ANALYZE")
"""
#: Records events and makes a row of an instance. Both versions understand it.
RECORD = """
import sys
import django

sys.path.insert(0, ".")
django.setup()
from django.db import transaction
from django.utils import timezone
from events.log import record
from lifecycle.models import Instance

with transaction.atomic():
    for number in range(int(sys.argv[1])):
        record("a.b", instance="reviewer-default", data={"number": number})
Instance.objects.get_or_create(name=sys.argv[2], defaults={"since": timezone.now()})
"""


class Version(Server):
    """A web process of the code in a folder."""

    def __init__(self, folder: Path, environment: dict[str, str], log: Path) -> None:
        self.folder = folder
        super().__init__({"DJANGO_SETTINGS_MODULE": "config.settings"} | environment, log)

    def start(self):
        command = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(self.port), "config.asgi:application"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def run(self, *arguments: str) -> None:
        """Run a Python program with this version's code and database."""
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def record(self, count: int, instance: str) -> None:
        self.run("-c", RECORD, str(count), instance)

    def dispatch(self) -> int:
        address = f"{self.url}/api/instances/works/dispatch"
        return httpx.post(address, content=b"0", headers=self.bearer, timeout=60).status_code

    def read(self, last: int, after: int = 0) -> list[int]:
        """Return the ids of the events of the stream, up to the `last`. Each connection brings at most 4 MB."""
        ids = [after]
        while ids[-1] < last:
            address = f"{self.url}/events?after={ids[-1]}"
            with httpx.stream("GET", address, headers=self.bearer, timeout=60) as stream:
                for line in stream.iter_lines():
                    if line.startswith("event: stream-reset"):
                        pytest.fail("the reader was told that events are gone")
                    if line.startswith("id: ") and int(line[4:]) != ids[-1]:  # a message of the stream repeats the id
                        ids.append(int(line[4:]))
                    if ids[-1] == last:
                        break
        return ids[1:]


class Caller:
    """Calls something again and again from a thread, and keeps what came back and how long the longest call took."""

    def __init__(self, call) -> None:
        self._call, self._ended = call, threading.Event()
        self.results, self.longest_seconds = [], 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            began = time.monotonic()
            try:
                self.results.append(self._call())
            except httpx.HTTPError as error:
                self.results.append(error)
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)

    def __enter__(self):
        self._thread.start()
        wait_for(lambda: self.results, what="the first call")
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    """The address of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/db.sqlite3"
        return
    need("postgres", programs(), "apt-get install postgresql")
    cluster = Cluster().start()
    yield cluster.url("postgres")
    cluster.remove()


@pytest.fixture
def versions(url, tmp_path):
    """The first version and this one, on one database that the first has made, with one agent."""
    archive = subprocess.run(["git", "archive", FIRST], cwd=PROJECT, capture_output=True, check=False)
    need("history", archive.returncode == 0, "git fetch --unshallow")
    first = tmp_path / "first"
    first.mkdir()
    subprocess.run(["tar", "--extract"], input=archive.stdout, cwd=first, check=True)
    with agents_file(tmp_path) as agents:
        environment = agents | {"DATABASE_URL": url, "DORMOUSE_ENGINE": "process", "DORMOUSE_VAR_DIR": str(tmp_path)}
        made = [
            Version(first, environment, tmp_path / "first.log"),
            Version(PROJECT, environment, tmp_path / "this.log"),
        ]
        made[0].run("manage.py", "migrate", "--verbosity", "0")
        yield made
        for version in made:
            version.stop()


def test_nothing_is_lost_and_the_first_version_goes_on(versions):
    first, this = versions
    first.run("-c", FILLER)
    first.wait_until_up()
    assert first.dispatch() == 200
    events = EVENTS + 1  # the agent has started
    this.wait_until_up()
    assert httpx.get(f"{this.url}/readyz").status_code == 503  # it is not migrated

    def read_the_latest():
        return first.read(events, after=events - 10)

    began = time.monotonic()
    with Caller(first.dispatch) as dispatches, Caller(read_the_latest) as reads:
        this.run("manage.py", "migrate", "--verbosity", "0")
        seconds = time.monotonic() - began
    print(
        f"{EVENTS} events: migrated in {seconds:.1f} s, the longest of {len(dispatches.results)} dispatches took "
        f"{dispatches.longest_seconds:.1f} s, the longest of {len(reads.results)} reads {reads.longest_seconds:.1f} s"
    )
    assert set(dispatches.results) == {200}
    assert all(ids == list(range(events - 9, events + 1)) for ids in reads.results), reads.results
    assert httpx.get(f"{this.url}/readyz").status_code == 200

    first.record(10, "by-the-first-version")
    this.record(10, "by-this-version")
    events += 20
    everything = list(range(1, events + 1))
    assert this.read(events) == everything
    assert first.read(events) == everything
    assert (first.dispatch(), this.dispatch()) == (200, 200)

    names = {one["name"] for one in httpx.get(f"{this.url}/api/instances", headers=this.bearer).json()["instances"]}
    assert names == {"works", "by-the-first-version", "by-this-version"}
    assert httpx.get(f"{first.url}/healthz").status_code == 200
