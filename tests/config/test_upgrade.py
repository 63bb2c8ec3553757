"""A database of the first version is upgraded, and that version goes on with it, so that going back is possible."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import need
from tests.servers import PROJECT, Server

pytestmark = [pytest.mark.server, pytest.mark.slow]
#: The last commit of version 0.1.0.
FIRST = "35ecbdb4c2c471195034a6adb5689b84c5a20985"
EVENTS = 100_000 if os.environ.get("DORMOUSE_LONG") else 500
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

    def __init__(self, folder: Path, url: str, log: Path) -> None:
        self.folder = folder
        super().__init__({"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "config.settings"}, log)

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
        subprocess.run(command, cwd=self.folder, env=self.environment, check=True, capture_output=True, text=True)

    def record(self, count: int, instance: str) -> None:
        self.run("-c", RECORD, str(count), instance)

    def read(self, count: int, after: int = 0) -> list[int]:
        """Return the ids of the next events of the stream."""
        ids: list[int] = []
        address = f"{self.url}/events?after={after}"
        with httpx.stream("GET", address, headers=self.bearer, timeout=60) as stream:
            for line in stream.iter_lines():
                if line.startswith("event: stream-reset"):
                    pytest.fail("the reader was told that events are gone")
                if line.startswith("id: ") and int(line[4:]) > (ids[-1] if ids else after):
                    ids.append(int(line[4:]))
                if len(ids) == count:
                    break
        return ids


@pytest.fixture
def versions(tmp_path):
    """The first version and this one, on one database that the first has made."""
    archive = subprocess.run(["git", "archive", FIRST], cwd=PROJECT, capture_output=True, check=False)
    need("history", archive.returncode == 0, "git fetch --unshallow")
    first, url = tmp_path / "first", f"sqlite:///{tmp_path}/db.sqlite3"
    first.mkdir()
    subprocess.run(["tar", "--extract"], input=archive.stdout, cwd=first, check=True)
    made = [Version(first, url, tmp_path / "first.log"), Version(PROJECT, url, tmp_path / "this.log")]
    made[0].run("manage.py", "migrate", "--verbosity", "0")
    yield made
    for version in made:
        version.stop()


def test_nothing_is_lost_and_the_first_version_goes_on(versions):
    first, this = versions
    first.record(EVENTS, "before")
    first.wait_until_up()
    this.wait_until_up()
    assert httpx.get(f"{this.url}/readyz").status_code == 503  # it is not migrated
    this.run("manage.py", "migrate", "--verbosity", "0")
    assert httpx.get(f"{this.url}/readyz").status_code == 200

    first.record(10, "by-the-first-version")
    this.record(10, "by-this-version")
    everything = list(range(1, EVENTS + 21))
    assert this.read(EVENTS + 20) == everything
    assert first.read(EVENTS + 20) == everything
    assert this.read(20, after=EVENTS) == everything[-20:]

    names = {one["name"] for one in httpx.get(f"{this.url}/api/instances", headers=this.bearer).json()["instances"]}
    assert names == {"before", "by-the-first-version", "by-this-version"}
    assert httpx.get(f"{first.url}/healthz").status_code == 200
