"""Dormouse killed with SIGKILL at each step of an order: one event, and a state that agrees with the engine."""

import signal
import subprocess
import sys

import pytest

from events.models import EventLog
from lifecycle.models import Instance
from lifecycle.state_machine import State
from tests.lifecycle.test_commands import NAME, manage
from tests.servers import PROJECT, wait_for

pytestmark = pytest.mark.server
__all__ = ["manage"]  # the fixture

STEPS = ["before the claim", "before the engine's stop", "after the engine's stop", "before the commit", "at the end"]


def finished(process):
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, (output, errors)


@pytest.fixture
def killed(manage):
    """Wake the instance, and kill a process that carries an order out, at a step of it."""

    def kill(order, step):
        woken = manage("wake", NAME)
        finished(woken)
        command = [sys.executable, "-m", "tests.lifecycle.dies_in_control", NAME, order, step]
        environment = manage.environment | {"DJANGO_SETTINGS_MODULE": "config.settings"}
        died = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True)
        assert died.returncode == -signal.SIGKILL, died.stderr

    return kill


def told(type):
    return [event.data for event in EventLog.objects.filter(type=f"container.{type}").order_by("id")]


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_it_puts_one_to_sleep(manage, killed, step):
    killed("sleep", step)
    if step == "before the claim":
        assert (Instance.objects.get(pk=NAME).state, told("lazy_stopped")) == (State.READY, [])
    finished(manage("sleep", NAME))  # it waits for a claim, and settles one that its owner has left
    (stopped,) = told("lazy_stopped")
    assert stopped["trigger"] == "sleep"
    assert stopped["by"] == ("alice" if step != "before the claim" else stopped["by"])
    assert stopped.get("recovered", False) == (step not in ("before the claim", "at the end"))
    row = Instance.objects.get(pk=NAME)
    assert (row.state, row.owner) == (State.ASLEEP, None)
    assert not manage.engine().inspect(NAME).running


@pytest.mark.parametrize("step", ["before the commit", "at the end"])
def test_killed_while_it_disables_one(manage, killed, step):
    killed("disable", step)
    is_decided = step == "at the end"
    assert len(told("disabled")) == is_decided
    assert bool(Instance.objects.get(pk=NAME).disabled) == is_decided
    if not is_decided:
        return
    manage("supervise")
    (stopped,) = wait_for(lambda: told("lazy_stopped"))
    assert (stopped["trigger"], stopped["by"]) == ("disabled", "alice")
    assert not manage.engine().inspect(NAME).running
