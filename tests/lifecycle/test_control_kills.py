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

STEPS = ["before the claim", "before the engine acts", "after the engine has acted", "before the commit", "at the end"]


def finished(process):
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, (output, errors)


def kill_in(name, order, step, environment):
    """Kill a process that carries an order out, at a step of it."""
    command = [sys.executable, "-m", "tests.lifecycle.dies_in_control", name, order, step]
    environment = environment | {"DJANGO_SETTINGS_MODULE": "config.settings"}
    died = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr


@pytest.fixture
def killed(manage):
    """Wake the instance, and kill a process that carries an order out, at a step of it."""

    def kill(order, step):
        finished(manage("wake", NAME))
        kill_in(NAME, order, step, manage.environment)

    return kill


def told(type):
    return [event.data for event in EventLog.objects.filter(type=f"container.{type}").order_by("id")]


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_it_wakes_one(manage, step):
    kill_in(NAME, "wake", step, manage.environment)
    if step == "before the engine acts":
        assert b"interrupted" in manage("wake", NAME).communicate(timeout=60)[1]  # it has joined that run
    finished(manage("wake", NAME))  # it waits for a claim, and settles one that its owner has left
    check_that_a_wake_was_told(step)
    assert manage.engine().inspect(NAME).running


def check_that_a_wake_was_told(step):
    """Each run has one event. A start that the engine was not asked for has failed, and the next one succeeds."""
    is_interrupted = step == "before the engine acts"
    failed = [{"cause": "interrupted", "run": 1, "by": "alice"}] if is_interrupted else []
    assert [{key: data[key] for key in ("cause", "run", "by")} for data in told("lazy_start_failed")] == failed
    (started,) = told("lazy_started")
    assert (started["trigger"], started["run"]) == ("wake", 2 if is_interrupted else 1)
    assert (started["by"] == "alice") == (step not in ("before the claim", "before the engine acts"))
    assert started.get("recovered", False) == (step in ("after the engine has acted", "before the commit"))
    row = Instance.objects.get(pk=NAME)
    assert (row.state, row.owner) == (State.READY, None)


@pytest.mark.parametrize("step", ["before the commit", "at the end"])
@pytest.mark.parametrize(("order", "type"), [("keep awake", "kept_awake"), ("enable", "enabled")])
def test_killed_while_it_decides(manage, killed, order, type, step):
    """The decision and its event are committed together, or neither is."""
    if order == "enable":
        finished(manage("wake", NAME))
        finished(manage("disable", NAME, "--reason", "key"))
        kill_in(NAME, order, step, manage.environment)
    else:
        killed(order, step)
    row, is_decided = Instance.objects.get(pk=NAME), step == "at the end"
    assert len(told(type)) == is_decided
    assert (row.awake_until is not None if order == "keep awake" else row.disabled is None) is is_decided


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
