"""Dormouse killed with SIGKILL at any point: after its restart exactly one event, and the right one."""

import os
import signal
import subprocess
import sys
import threading

import httpx
import pytest
from docker.errors import NotFound

from access.models import Token
from lifecycle.models import Instance
from lifecycle.state_machine import State
from tests.docker.support.engine import HOST
from tests.docker.support.from_outside import WORK, dispatch, logged, types
from tests.servers import PROJECT, wait_for


def killed_while_starting(server, containers, **keys):
    """Kills the web process in the middle of a dispatch, when its container runs."""
    name = containers.create(**keys)

    def ask() -> None:
        with pytest.raises(httpx.TransportError):
            dispatch(server, name)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(lambda: containers.is_running(name))
    server.kill()
    asking.join()
    assert types(name) == []
    server.restart()
    return name


def operator():
    """Return the headers of a new operator."""
    Token.objects.filter(name="operator").delete()
    return {"Authorization": f"Bearer {Token.objects.issue('operator', 'operator')[1]}"}


def settled(name):
    """Return the one event that the restarted process recorded, when its claim has ended."""
    (event,) = wait_for(lambda: logged(name), what="the event")
    row = Instance.objects.get(pk=name)
    assert row.owner is None
    return event.type.removeprefix("container."), event.data, row.state


def test_killed_after_the_claim(server, containers):
    name = containers.create(**WORK)
    dead = subprocess.run(
        [sys.executable, "-m", "tests.docker.support.dies_before_start", name],
        cwd=PROJECT,
        env=os.environ | {"DATABASE_URL": server.environment["DATABASE_URL"], "DOCKER_HOST": HOST},
    )
    assert dead.returncode == -signal.SIGKILL
    type, data, state = settled(name)
    assert (type, data["cause"], data["recovered"]) == ("lazy_start_failed", "interrupted", True)
    assert state == State.ASLEEP
    assert not containers.is_running(name)
    assert dispatch(server, name).status_code == 200
    assert types(name) == ["lazy_start_failed", "lazy_started"]


def test_killed_after_the_engines_start(server, containers):
    name = killed_while_starting(server, containers, environment={"BOOT": "3"}, **WORK)
    type, data, state = settled(name)
    assert (type, data["run"], data["recovered"]) == ("lazy_started", 1, True)
    assert data["latency_ms"] >= 3000
    assert state == State.READY
    assert dispatch(server, name).status_code == 200
    assert types(name) == ["lazy_started"]


def test_killed_after_the_start_of_one_that_never_gets_ready(server, containers):
    name = killed_while_starting(server, containers, environment={"BOOT": "3600"}, start_timeout="1s", **WORK)
    type, data, state = settled(name)
    assert (type, data["cause"], data["recovered"]) == ("lazy_start_failed", "not_ready", True)
    assert data["log_tail"] == "booting\n"
    assert state == State.ASLEEP
    assert not containers.is_running(name)


def test_killed_in_a_stop(server, containers):
    name = containers.create(environment={"STOP": "3"}, idle_timeout="500ms", **WORK)
    dispatch(server, name)

    def is_stopping() -> bool:
        try:
            return containers.read(name, "/stopping") == ""
        except NotFound:
            return False

    wait_for(is_stopping)
    server.kill()
    assert types(name) == ["lazy_started"]
    idle_seconds = Instance.objects.get(pk=name, state=State.STOPPING).idle_seconds
    server.restart()
    wait_for(lambda: "lazy_stopped" in types(name))
    told = {"instance": name, "run": 1, "idle_seconds": idle_seconds, "trigger": "idle", "recovered": True}
    assert logged(name)[-1].data == told
    assert not containers.is_running(name)
    assert dispatch(server, name).status_code == 200
    assert types(name)[:3] == ["lazy_started", "lazy_stopped", "lazy_started"]


def test_killed_while_it_puts_one_to_sleep(server, containers):
    name = containers.create(environment={"STOP": "3"}, **WORK)
    dispatch(server, name)

    def order():
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{server.url}/api/instances/{name}/sleep", headers=operator(), timeout=60)

    asking = threading.Thread(target=order)
    asking.start()
    wait_for(lambda: Instance.objects.get(pk=name).state == State.STOPPING)
    server.kill()
    asking.join()
    assert types(name) == ["lazy_started"]
    server.restart()
    wait_for(lambda: "lazy_stopped" in types(name))
    told = {"instance": name, "run": 1, "trigger": "sleep", "by": "operator", "by_kind": "token", "recovered": True}
    assert logged(name)[-1].data.items() >= told.items()
    assert (types(name), containers.is_running(name)) == (["lazy_started", "lazy_stopped"], False)
