"""Deliveries go on in order after SIGKILL of the process that delivers, and nothing is lost."""

import os
import random
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from events.log import record
from telling.subscriptions.models import Subscription
from telling.subscriptions.turns import SAVE_EVENTS
from tests.servers import PROJECT, database_url, wait_for
from tests.telling.subscriptions.receivers import Receiver, fails_every_second_time, firsts, healthy

IS_LONG = bool(os.environ.get("DORMOUSE_LONG"))
EVENTS = 10_000 if IS_LONG else 300
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
    port = down.server_port
    down.stop()
    secrets = {receiver: subscribe(receiver.url, f"s{n}")[1] for n, receiver in enumerate((steady, failing, down))}
    steady.secret, failing.secret = secrets[steady], secrets[failing]
    supervisors = Supervisors(tmp_path)
    try:
        ids = [record("a.b", data={"n": n}).id for n in range(EVENTS)]
        for kill in range(KILLS):
            share = EVENTS * (kill + 1) // (KILLS + 1)  # so that kills come while it delivers
            wait_for(lambda: len(steady.taken) >= share, seconds=3600)  # noqa: B023
            supervisors.kill_one()
        threading.Event().wait(DOWN_SECONDS)  # so much longer the third receiver is down
        up = Receiver(port=port)
        secrets[up] = up.secret = secrets.pop(down)
        try:
            for receiver in secrets:
                wait_for(lambda: len(set(receiver.ids())) == EVENTS, seconds=3600)  # noqa: B023
            for receiver in secrets:
                assert_in_order(receiver.ids(), ids)
                assert receiver.verified == len(receiver.requests)
            wait_for(lambda: set(Subscription.objects.values_list("cursor", flat=True)) == {ids[-1]})
        finally:
            up.stop()
    finally:
        supervisors.stop()


def assert_in_order(got, ids):
    """Assert that nothing is skipped: after a kill a receiver gets a few again, and then the next one."""
    assert firsts(got) == ids
    repeats = len(got) - len(ids)
    assert repeats <= KILLS * SAVE_EVENTS, f"{repeats} repeats"
    print(f"{repeats} repeats")
