"""Deliveries go on in order after SIGKILL of the process that delivers, and nothing is lost."""

import os
import random
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from events.log import record
from telling.subscriptions.models import Subscription
from telling.subscriptions.turns import SAVE_EVENTS
from tests.servers import PROJECT, database_url, wait_for
from tests.telling.subscriptions.receivers import fails_every_second_time, firsts, healthy

IS_LONG = bool(os.environ.get("DORMOUSE_LONG"))
EVENTS = 10_000 if IS_LONG else 200
KILLS = 40 if IS_LONG else 4
DOWN_SECONDS = 60 if IS_LONG else 3
PROCESSES = 2


def takes_its_time(request: BaseHTTPRequestHandler, number: int) -> None:
    threading.Event().wait(0.02)
    healthy(request, number)


class Supervisors:
    """Several `manage.py supervise` on the test's database. Any of them may be killed, and is started again."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "supervise.log"
        self._environment = os.environ | {
            "DATABASE_URL": database_url(),
            "DORMOUSE_PUBLIC_URL": "https://dormouse.example.org",
            "DORMOUSE_WEBHOOK_PRIVATE": "true",
        }
        self._running = [self._start() for _ in range(PROCESSES)]

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            command = [sys.executable, "manage.py", "supervise"]
            return subprocess.Popen(command, cwd=PROJECT, env=self._environment, stdout=log, stderr=log)

    def kill_one(self) -> None:
        number = random.randrange(PROCESSES)
        self._running[number].kill()
        self._running[number].wait()
        self._running[number] = self._start()

    def stop(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()


@pytest.mark.server
@pytest.mark.django_db(transaction=True)
def test_every_receiver_gets_everything_in_order_over_kills(receive, subscribe, tmp_path):
    steady, failing, down = receive(takes_its_time), receive(fails_every_second_time), receive()
    down.stop()
    up_at = time.monotonic() + DOWN_SECONDS
    ids = [record("a.b", data={"n": n}).id for n in range(EVENTS)]
    secrets = [subscribe(one.url, f"s{n}")[1] for n, one in enumerate((steady, failing, down))]
    steady.secret, failing.secret = secrets[:2]
    receivers, supervisors = {"steady": steady, "failing": failing}, Supervisors(tmp_path)
    try:
        for kill in range(KILLS):  # spread over the time that the slowest receiver takes
            wait_for(lambda: len(failing.taken) >= EVENTS * (kill + 1) // (KILLS + 1), seconds=3600)  # noqa: B023
            supervisors.kill_one()
            if "down" not in receivers and time.monotonic() > up_at:
                receivers["down"] = receive(takes_its_time, port=down.server_port, secret=secrets[2])
        wait_for(lambda: set(Subscription.objects.values_list("cursor", flat=True)) == {ids[-1]}, seconds=3600)
    finally:
        supervisors.stop()
    assert list(receivers) == ["steady", "failing", "down"]
    for name, receiver in receivers.items():
        assert_in_order(name, receiver.ids(), ids)
        assert receiver.verified == len(receiver.requests)


def assert_in_order(name, got, ids):
    """Assert that nothing is skipped: after a kill a receiver gets a few again, and then the next one."""
    assert firsts(got) == ids, name
    repeats = len(got) - len(ids)
    assert repeats <= KILLS * SAVE_EVENTS, f"{name}: {repeats} repeats"
    print(f"{name}: {repeats} repeats")
