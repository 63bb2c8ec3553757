"""A long backlog is worked off without growing memory, and holds up no other subscription."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.utils import timezone

from events.log import record
from events.models import EventLog
from telling.subscriptions.models import Subscription
from tests.servers import PROJECT, database_url, wait_for
from tests.telling.subscriptions.receivers import healthy

BACKLOG = 100_000 if os.environ.get("DORMOUSE_LONG") else 3_000
#: What the process may grow by from a tenth of the backlog to its end. All events at once would be several times that.
MAX_GROWTH_BYTES = 16 * 1024 * 1024
#: Of one event's data.
DATA = {"text": "x" * 1000}


@pytest.fixture
def supervisor(tmp_path):
    environment = {
        "DATABASE_URL": database_url(),
        "DORMOUSE_PUBLIC_URL": "https://dormouse.example.org",
        "DORMOUSE_WEBHOOK_PRIVATE": "true",
    }
    with (tmp_path / "supervise.log").open("ab") as log:
        command = [sys.executable, "manage.py", "supervise"]
        process = subprocess.Popen(command, cwd=PROJECT, env=os.environ | environment, stdout=log, stderr=log)
    yield process
    process.kill()
    process.wait()


def resident_bytes(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.server
@pytest.mark.django_db(transaction=True)
def test_a_backlog(receive, subscribe, supervisor):
    may_go_on = threading.Event()

    def wait_and_take(request, number):
        """Take a tenth of the backlog at once, and the rest slowly until the other receiver has its event."""
        if number > BACKLOG / 10:
            may_go_on.wait(5)
        healthy(request, number)

    slow, quick = receive(wait_and_take), receive()
    rows = (EventLog(type="a.b", data=DATA, at=timezone.now()) for _ in range(BACKLOG))
    EventLog.objects.bulk_create(rows, batch_size=1000)
    latest = EventLog.objects.bounds()[1]
    subscribe(slow.url, "backlog")
    subscribe(quick.url, "quick", cursor=latest)
    wait_for(lambda: len(slow.taken) >= BACKLOG / 10, seconds=3600)
    before, at_event = resident_bytes(supervisor.pid), record("c.d").id
    wait_for(lambda: quick.ids() == [at_event])
    assert len(slow.taken) < BACKLOG, "the backlog was over before the other subscription had its event"
    may_go_on.set()
    wait_for(lambda: len(slow.taken) == BACKLOG + 1, seconds=3600)
    growth = resident_bytes(supervisor.pid) - before
    print(f"grew by {growth / 1024 / 1024:.1f} MB")
    assert growth < MAX_GROWTH_BYTES
    assert slow.ids() == sorted(slow.ids())
    wait_for(lambda: Subscription.objects.get(name="backlog").cursor == at_event)
