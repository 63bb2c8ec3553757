"""Many dispatches at once, from two web processes; and dispatches that meet the idle stop."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from lifecycle.models import Instance, Lease
from tests.docker.support.engine_log import LONG, agree, told_by_dormouse
from tests.docker.support.from_outside import WORK, dispatch, types
from tests.servers import wait_for

SLEEPERS = 6
DISPATCHES_EACH = 167 if LONG else 6


@pytest.fixture
def servers(serve_docker):
    """Two processes, as behind a load balancer."""
    return [serve_docker(), serve_docker()]


def test_fifty_dispatches_to_a_sleeper_from_two_processes_make_one_start(servers, containers, engine_log):
    name = containers.create(environment={"BOOT": "1"}, **WORK)
    with ThreadPoolExecutor(50) as callers:
        answers = list(callers.map(lambda n: dispatch(servers[n % 2], name, f"work {n}"), range(50)))
    assert [answer.text for answer in answers] == [f"working on: work {n}\ndone\n" for n in range(50)]
    assert engine_log.actions(name) == ["start"]
    assert types(name) == ["lazy_started"]


def test_fifty_dispatches_to_one_that_fails_make_one_start_and_one_failure(servers, containers, engine_log):
    name = containers.create(command=["sh", "-c", "sleep 3; exit 3"], **WORK)
    with ThreadPoolExecutor(50) as callers:
        answers = list(callers.map(lambda n: dispatch(servers[n % 2], name), range(50)))
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["error"] for answer in answers} == {"exited with code 3 before it was ready"}
    assert agree(engine_log.of(name), told_by_dormouse(name)) == "asleep"
    assert len(types(name)) < 10, "who comes after a failure makes a new run; all the others shared theirs"


def test_dispatches_that_meet_the_idle_stop_are_all_answered(servers, containers, engine_log):
    names = [containers.create(environment={"STOP": "0.5"}, idle_timeout="300ms", **WORK) for _ in range(SLEEPERS)]
    met: Counter[str] = Counter()

    def dispatch_again_and_again(name):
        for number in range(DISPATCHES_EACH):
            answer = dispatch(random.choice(servers), name, str(number))
            assert (answer.status_code, answer.text) == (200, f"working on: {number}\ndone\n")
            time.sleep(random.uniform(0.2, 2.2))  # the stop is claimed, made and told somewhere in there
            met[Instance.objects.values_list("state", flat=True).get(pk=name)] += 1
        connections.close_all()

    with ThreadPoolExecutor(SLEEPERS) as callers:
        list(callers.map(dispatch_again_and_again, names))
    print(f"{sum(met.values())} dispatches met {dict(met)}")
    assert met["stopping"]
    asleep = Instance.objects.filter(name__in=names, state="asleep")
    wait_for(lambda: asleep.count() == SLEEPERS, what="sleep")
    assert not Lease.objects.exists()
    for name in names:
        assert agree(engine_log.of(name), told_by_dormouse(name)) == "asleep"
