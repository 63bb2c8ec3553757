"""Containers with `dormouse.sleep=pause`: paused when idle, resumed by a dispatch, and told as such."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from django.db import connections

from lifecycle.engines.base import Phase
from lifecycle.models import Instance
from lifecycle.state_machine import State
from tests.docker.support.engine import HOST
from tests.docker.support.engine_log import LONG, EngineLog
from tests.docker.support.from_outside import WORK, dispatch, logged, types
from tests.servers import DEADLINE_SECONDS, PROJECT, wait_for

ROUNDS = 1000 if LONG else 20
PAUSES = WORK | {"sleep": "pause", "idle_timeout": "1ms"}


def phase(lifecycle, name):
    return lifecycle.engine.inspect(name).phase


def work(lifecycle, name):
    """Dispatch one piece of work in this process, and return the whole answer."""
    while (leased := lifecycle.leases.take(name)) is None:
        lifecycle.waking.wake(name)
    host, port = leased.seen.address
    try:
        return httpx.post(f"http://{host}:{port}/cgi-bin/work", content="x", timeout=DEADLINE_SECONDS).text
    finally:
        lifecycle.leases.give_back(leased.lease)


@pytest.fixture
def pause_log(docker_api):
    log = EngineLog(docker_api, ("start", "die", "pause", "unpause"))
    yield log
    log.close()


def test_rounds_of_pause_and_resume_lose_no_work_and_tell_each_once(transactional_db, lifecycle, containers, pause_log):
    """Two callers work while a third thread pauses whenever it may."""
    name, ended = containers.create(**PAUSES), threading.Event()

    def pause_again_and_again():
        while not ended.is_set():
            lifecycle.worker.send_heartbeat()
            for row in lifecycle.stopping.find_idle():
                lifecycle.stopping.stop_idle(row)
        connections.close_all()

    def work_again_and_again(_):
        answers = [work(lifecycle, name) for _ in range(ROUNDS)]
        connections.close_all()
        return answers

    pausing = threading.Thread(target=pause_again_and_again)
    pausing.start()
    try:
        with ThreadPoolExecutor(2) as callers:
            answers = list(itertools.chain(*callers.map(work_again_and_again, range(2))))
        wait_for(lambda: Instance.objects.filter(pk=name, state=State.ASLEEP), what="its last pause")
    finally:
        ended.set()
        pausing.join()
    assert answers == ["working on: x\ndone\n"] * 2 * ROUNDS
    told = logged(name)
    assert types(name) == ["lazy_started", "lazy_stopped"] * (len(told) // 2)
    assert [event.data["run"] for event in told[::2]] == list(range(1, len(told) // 2 + 1))
    assert [event.data.get("mode") for event in told] == [None, *["pause"] * (len(told) - 1)]
    assert pause_log.actions(name) == ["start", *["pause", "unpause"] * (len(told) // 2)][:-1]


def test_one_whose_health_turned_while_it_was_paused_is_ready_at_once(lifecycle, containers):
    check = {"test": ["CMD", "echo"], "interval": 10**9}
    name = containers.create(healthcheck=check, **PAUSES | {"ready": "health", "start_timeout": "60s"})
    for _ in range(2):
        assert work(lifecycle, name) == "working on: x\ndone\n"
        (row,) = lifecycle.stopping.find_idle()
        lifecycle.stopping.stop_idle(row)
    assert [event.data.get("mode") for event in logged(name)] == [None, "pause", "pause", "pause"]


def test_one_that_is_killed_while_it_is_paused_is_started_by_the_next_dispatch(server, containers):
    name = containers.create(**PAUSES)
    dispatch(server, name)
    wait_for(lambda: containers.state(name)["Paused"])
    containers.api.kill(name)
    assert dispatch(server, name).status_code == 200
    wait_for(lambda: len(types(name)) >= 4)
    assert types(name)[:4] == ["lazy_started", "lazy_stopped", "lazy_started", "lazy_stopped"]
    assert "mode" not in logged(name)[2].data


def test_one_that_a_person_pauses_is_resumed_by_the_next_dispatch(server, containers):
    name = containers.create(**PAUSES | {"idle_timeout": "1h"})
    dispatch(server, name)
    containers.api.pause(name)
    assert dispatch(server, name).text == "working on: \ndone\n"
    assert [event.data.get("mode") for event in logged(name)] == [None, "pause"]


def test_one_that_a_person_resumes_is_adopted(server, containers):
    name = containers.create(**PAUSES)
    dispatch(server, name)
    wait_for(lambda: Instance.objects.filter(pk=name, state=State.ASLEEP))
    containers.api.unpause(name)
    wait_for(lambda: types(name) == ["lazy_started", "lazy_stopped", "lazy_stopped"], what="the pause after that")


@pytest.mark.parametrize("call", ["pause", "resume"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_killed_in_the_middle_leaves_one_event(server, containers, lifecycle, call, when):
    name = containers.create(**PAUSES | {"idle_timeout": "1h"})
    work(lifecycle, name)
    if call == "resume":
        containers.api.pause(name)
    dead = subprocess.run(
        [sys.executable, "-m", "tests.docker.support.dies_while_pausing", name, call, when],
        cwd=PROJECT,
        env=os.environ | {"DATABASE_URL": server.environment["DATABASE_URL"], "DOCKER_HOST": HOST},
    )
    assert dead.returncode == -signal.SIGKILL
    wait_for(lambda: len(types(name)) == 2 and Instance.objects.get(pk=name).owner is None, what="its recovery")
    told = logged(name)[1]
    assert told.data["recovered"]
    assert told.data["mode"] == "pause"
    if call == "resume" and when == "before":
        assert (types(name)[1], told.data["cause"]) == ("lazy_start_failed", "interrupted")
    else:
        assert types(name)[1] == {"pause": "lazy_stopped", "resume": "lazy_started"}[call]
    is_paused = phase(lifecycle, name) is Phase.PAUSED
    assert is_paused == (types(name)[1] != "lazy_started")
    assert dispatch(server, name).status_code == 200
