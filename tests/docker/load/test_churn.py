"""Dormouse killed with SIGKILL at random moments, again and again, while it starts and stops: the logs agree."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from django.db import connections

from lifecycle.models import Instance, Lease
from lifecycle.state_machine import State
from tests.docker.support.engine_log import LONG, agree, told_by_dormouse
from tests.docker.support.from_outside import WORK, dispatch
from tests.servers import wait_for

ROUNDS = 100 if LONG else 7
AGENTS = 3
#: Longer than a claim of a dead process may stay, and than a busy machine takes for the rest.
SETTLED_SECONDS = 120


class Killer:
    """Kills one of `servers` now and then, and starts it again."""

    def __init__(self, servers):
        self.killed = 0
        self._servers = servers
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._kill_and_restart)
        self._thread.start()

    def _kill_and_restart(self):
        while not self._ended.wait(random.uniform(0.5, 5)):
            server = random.choice(self._servers)
            server.kill()
            self.killed += 1
            server.start()

    def end(self):
        self._ended.set()
        self._thread.join()


@pytest.fixture
def servers(serve_docker):
    return [serve_docker(), serve_docker()]


def dispatch_somewhere(servers, name):
    """Dispatch, and ignore the outcome, because the process that answers or the one that starts may be killed."""
    while True:
        try:
            answer = dispatch(random.choice(servers), name)
        except httpx.ConnectError:  # just being started
            time.sleep(0.1)
        except httpx.TransportError:
            return "broken off"
        else:
            return answer.json()["cause"] if answer.status_code == 503 else str(answer.status_code)


def everything_sleeps(names):
    asleep = Instance.objects.filter(name__in=names, state=State.ASLEEP)
    return asleep.count() == len(names) and not Lease.objects.exists()


def test_both_logs_agree_one_to_one_after_the_churn(servers, containers, engine_log):
    environment = {"BOOT": "0.3", "STOP": "0.3"}
    names = [containers.create(environment=environment, idle_timeout="500ms", **WORK) for _ in range(AGENTS)]
    answers: Counter[str] = Counter()
    killer = Killer(servers)

    def churn(name):
        for _ in range(ROUNDS):
            answers[dispatch_somewhere(servers, name)] += 1
            if random.random() < 0.7:  # else the next one meets whatever this one left
                wait_for(lambda: Instance.objects.filter(pk=name, state=State.ASLEEP), SETTLED_SECONDS, "its sleep")
        connections.close_all()

    try:
        with ThreadPoolExecutor(AGENTS) as callers:
            list(callers.map(churn, names))
    finally:
        killer.end()
    wait_for(lambda: everything_sleeps(names), SETTLED_SECONDS, "everything to sleep")
    told = [one for name in names for one in told_by_dormouse(name)]
    kinds = Counter(f"{one.what}{' recovered' * one.data.get('recovered', False)}" for one in told)
    print(f"{killer.killed} kills; answers {dict(answers)}; events {dict(kinds)}")
    assert killer.killed
    assert answers["200"]
    for name in names:
        assert agree(engine_log.of(name), told_by_dormouse(name)) == "asleep"
        assert not containers.is_running(name)
