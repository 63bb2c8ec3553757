"""A process frozen in the middle of a start and of a stop, and continued when another has taken over."""

import os
import signal
import sqlite3
import threading
import time

import httpx
import pytest
from django.db import connection
from docker.errors import NotFound

from lifecycle.models import Instance, Worker
from lifecycle.state_machine import State
from tests.docker.support.engine_log import LONG, agree, told_by_dormouse
from tests.docker.support.from_outside import WORK, dispatch, logged, types
from tests.servers import DEADLINE_SECONDS, wait_for

#: At least; it is not continued before another has taken over, which takes more than 20 s.
FROZEN_SECONDS = 40 if LONG else 0


def freeze(server):
    """Not in the middle of a write, which would hold everybody up."""
    while True:
        os.kill(server.process.pid, signal.SIGSTOP)
        if can_be_written():
            return
        os.kill(server.process.pid, signal.SIGCONT)


def can_be_written():
    if connection.vendor != "sqlite":
        return True
    database = sqlite3.connect(connection.settings_dict["NAME"], timeout=1, isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
        database.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        database.close()
    return True


@pytest.fixture
def owner(serve_docker):
    server = serve_docker()
    yield server
    os.kill(server.process.pid, signal.SIGCONT)


def heartbeats(worker):
    return Worker.objects.get(pk=worker.pk).heartbeat


def is_stopping(containers, name):
    try:
        return containers.read(name, "/stopping") == ""
    except NotFound:
        return False


def test_another_takes_over_and_the_late_owner_changes_nothing(owner, serve_docker, containers, engine_log):
    stopping = containers.create(environment={"STOP": "15"}, stop_timeout="30s", idle_timeout="8s", **WORK)
    starting = containers.create(environment={"BOOT": "8"}, **WORK)
    assert dispatch(owner, stopping).status_code == 200
    (worker,) = Worker.objects.all()
    wait_for(lambda: is_stopping(containers, stopping), what="the stop")
    answers: list[httpx.Response] = []
    caller = threading.Thread(target=lambda: answers.append(dispatch(owner, starting)))
    caller.start()
    wait_for(lambda: containers.is_running(starting), what="the start")
    freeze(owner)
    began = time.monotonic()
    states = [Instance.objects.get(pk=name).state for name in (starting, stopping)]
    assert states == [State.STARTING, State.STOPPING]

    other = serve_docker()
    wait_for(lambda: types(starting) and len(types(stopping)) == 2, DEADLINE_SECONDS + 40, "the other to take over")
    took_over = time.monotonic() - began
    assert (types(starting), types(stopping)) == (["lazy_started"], ["lazy_started", "lazy_stopped"])
    assert logged(starting)[0].data["recovered"] is logged(stopping)[1].data["recovered"] is True
    wait_for(lambda: time.monotonic() - began >= FROZEN_SECONDS, DEADLINE_SECONDS + 40)
    assert dispatch(other, starting).status_code == dispatch(other, stopping).status_code == 200

    counted = heartbeats(worker)
    frozen = time.monotonic() - began
    os.kill(owner.process.pid, signal.SIGCONT)
    caller.join()
    wait_for(lambda: heartbeats(worker) >= counted + 2, what="the late owner to send heartbeats again")
    print(f"taken over {took_over:.1f} s after the freeze, continued after {frozen:.1f} s")
    assert answers[0].status_code == 200
    assert types(starting) == ["lazy_started"]
    assert engine_log.actions(starting) == ["start"]
    assert agree(engine_log.of(stopping), told_by_dormouse(stopping)) in ("ready", "stopped", "asleep")
    assert types(stopping)[:3] == ["lazy_started", "lazy_stopped", "lazy_started"]
