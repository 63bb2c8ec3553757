"""Work goes in turn to the tasks of a service that are ready."""

from dataclasses import replace

import pytest

from lifecycle.dispatch.turns import ASK_AGAIN_SECONDS, Turns
from lifecycle.engines.base import Inspection, Phase
from lifecycle.engines.labels import read
from tests.lifecycle.conftest import NAME

FIRST, SECOND, THIRD = (("10.0.0.1", 80),), (("10.0.0.2", 80), ("10.1.0.2", 32768)), (("10.0.0.3", 80),)


class Probes:
    """Answer for the tasks: those at the addresses in `ready` are."""

    def __init__(self):
        self.ready = {FIRST[0]}
        self.asked = []

    def __call__(self, seen, labels):
        self.asked.append(seen.address)
        return None if seen.address in self.ready else "not yet"


#: The probes that are to be made in the background.
WAITING = []


def ask():
    while WAITING:
        WAITING.pop()()


@pytest.fixture
def probes():
    return Probes()


@pytest.fixture
def turns(probes, clock):
    """Provide turns whose probes in the background are made by the tests, with `ask`."""
    return Turns(probes, clock, WAITING.append)


def seen(*tasks):
    labels = read(NAME, {"dormouse.enable": "true", "dormouse.port": "80"})
    return Inspection(NAME, Phase.RUNNING, "id@1", labels, addresses=FIRST, tasks=tasks)


def take(turns, inspection, times=6):
    return [turns.take(inspection).address for _ in range(times)]


def test_one_task_has_all_the_work(turns, probes):
    one = seen()
    assert turns.take(one) is one
    assert probes.asked == []


def test_all_that_are_ready_take_turns(turns, probes):
    probes.ready |= {SECOND[1], THIRD[0]}
    three = seen(FIRST, SECOND, THIRD)
    turns.take(three)
    ask()
    found = take(turns, three)
    assert sorted(found) == sorted([FIRST[0], SECOND[1], THIRD[0]] * 2)
    assert found[:3] == found[3:]
    assert len(probes.asked) == 3, "the addresses of the second task in order, and the third's; the first is known"


def test_one_that_is_not_ready_gets_no_work_and_is_asked_again(turns, probes, clock):
    two = seen(FIRST, THIRD)
    for expected in (1, 1):
        assert set(take(turns, two)) == {FIRST[0]}
        ask()
        assert len(probes.asked) == expected
    probes.ready.add(THIRD[0])
    clock.go(ASK_AGAIN_SECONDS)
    take(turns, two, 1)
    ask()
    assert set(take(turns, two)) == {FIRST[0], THIRD[0]}


def test_a_task_that_is_gone_is_forgotten(turns, probes):
    probes.ready.add(THIRD[0])
    turns.take(seen(FIRST, THIRD))
    ask()
    assert set(take(turns, seen(FIRST, SECOND))) == {FIRST[0]}
    assert THIRD not in turns._tasks[NAME]


def test_after_a_connection_that_failed_all_others_are_asked_again(turns, probes):
    probes.ready.add(THIRD[0])
    two = seen(FIRST, THIRD)
    turns.take(two)
    ask()
    turns.forget(NAME)
    assert set(take(turns, two)) == {FIRST[0]}


def test_a_task_that_ended_before_its_probe_does_not_come_back(turns, probes):
    probes.ready.add(THIRD[0])
    turns.take(seen(FIRST, THIRD))
    turns.take(seen(FIRST, SECOND))
    ask()
    assert THIRD not in turns._tasks[NAME]


def test_where_readiness_is_the_health_the_port_is_found_out(turns, probes):
    probes.ready.add(SECOND[1])
    two = seen(FIRST, SECOND)
    healthy = replace(two, labels=replace(two.labels, ready="health"))
    turns.take(healthy)
    ask()
    assert set(take(turns, healthy)) == {FIRST[0], SECOND[1]}
