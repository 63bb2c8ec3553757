"""Dormouse killed with SIGKILL at each step of an order, on a real engine: one event, and a state that agrees."""

import os

import pytest

from lifecycle.exceptions import StartFailed
from lifecycle.models import Instance
from lifecycle.orders import Order, Trigger
from lifecycle.state_machine import State
from tests.docker.support.engine import HOST
from tests.docker.support.engine_log import agree, told_by_dormouse
from tests.docker.support.from_outside import WORK, types
from tests.lifecycle.conftest import recover
from tests.lifecycle.test_control_kills import STEPS, kill_in
from tests.servers import database_url, wait_for


@pytest.fixture
def killed(transactional_db, lifecycle, containers):
    """Wake an instance, and kill a process that carries an order out, at a step of it. Return the instance's name."""

    def kill(order, step, **keys):
        name = containers.create(**WORK, **keys)
        if order != "wake":
            lifecycle.control.wake(name, Order(Trigger.WAKE))
        environment = {"DATABASE_URL": database_url(), "DORMOUSE_ENGINE": "docker", "DOCKER_HOST": HOST}
        kill_in(name, order, step, os.environ | environment)
        return name

    return kill


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_it_puts_one_to_sleep(lifecycle, containers, engine_log, killed, step):
    name = killed("sleep", step)
    lifecycle.control.sleep(name, Order(Trigger.SLEEP))
    assert types(name) == ["lazy_started", "lazy_stopped"]
    assert not containers.is_running(name)
    assert Instance.objects.get(pk=name).owner is None
    assert agree(engine_log.of(name), told_by_dormouse(name)) == "asleep"


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_it_wakes_one(lifecycle, containers, engine_log, killed, step):
    name = killed("wake", step)
    if step == "before the engine acts":
        with pytest.raises(StartFailed, match="interrupted"):
            lifecycle.control.wake(name, Order(Trigger.WAKE))  # it joins that run
    lifecycle.control.wake(name, Order(Trigger.WAKE))
    failed = ["lazy_start_failed"] if step == "before the engine acts" else []
    assert types(name) == [*failed, "lazy_started"]
    assert containers.is_running(name)
    assert agree(engine_log.of(name), told_by_dormouse(name)) == "ready"


@pytest.mark.parametrize("step", ["before the engine acts", "after the engine has acted", "before the commit"])
def test_killed_while_it_pauses_one(lifecycle, containers, killed, step):
    name = killed("sleep", step, sleep="pause")
    wait_for(lambda: recover(lifecycle) or Instance.objects.get(pk=name).state == State.ASLEEP)
    assert types(name) == ["lazy_started", "lazy_stopped"]
    assert containers.state(name)["Paused"]


@pytest.mark.parametrize("step", ["before the commit", "at the end"])
def test_killed_while_it_disables_one(lifecycle, containers, engine_log, killed, step):
    name = killed("disable", step)
    is_decided = step == "at the end"
    for found in lifecycle.stopping.find_disabled():
        lifecycle.stopping.stop_disabled(found)
    assert types(name) == ["lazy_started", *(["disabled", "lazy_stopped"] if is_decided else [])]
    assert containers.is_running(name) is not is_decided
