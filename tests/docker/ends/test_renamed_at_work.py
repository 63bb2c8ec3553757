"""Containers that are renamed while they work: the caller gets the whole answer, and the names get what is theirs."""

import threading
import uuid

import httpx
import pytest

from lifecycle.models import Instance
from lifecycle.state_machine import State
from tests.docker.support.from_outside import WORK, dispatch, types
from tests.servers import DEADLINE_SECONDS, wait_for

IDLE = {"idle_timeout": "1s", **WORK}


@pytest.fixture
def at_work(server, containers):
    """A container at work, with what its caller gets in the end."""
    name = containers.create(environment={"HOLD": "1"}, **IDLE)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(dispatch(server, name, "a letter")))
    caller.start()
    wait_for(lambda: Instance.objects.filter(pk=name, state=State.READY, leases__isnull=False), what="the work")

    def answer_after(new):
        containers.touch(new, "/go")
        caller.join(DEADLINE_SECONDS)
        return answers[0].status_code, answers[0].text

    return name, answer_after


ANSWER = (200, "working on: a letter\ndone\n")


def another_falls_asleep(server, containers):
    """Wait until one that was used later is asleep, so that the idle timeout of all others is over, too."""
    other = containers.create(**IDLE)
    dispatch(server, other)
    wait_for(lambda: "lazy_stopped" in types(other), what="the sleep of another one")


def test_one_that_is_renamed_at_work_answers_and_is_not_stopped(server, containers, at_work):
    name, answer_after = at_work
    containers.remove_too(new := f"{name}-old")
    containers.api.rename(name, new)
    wait_for(lambda: Instance.objects.filter(pk=new, leases__isnull=False), what="the work under the new name")
    another_falls_asleep(server, containers)
    assert containers.is_running(new)
    assert answer_after(new) == ANSWER
    wait_for(lambda: not containers.is_running(new), what="its sleep after the work")


def test_two_that_swap_their_names_at_work_answer(server, containers, at_work):
    name, answer_after = at_work
    other, away = containers.create(**IDLE), f"{name}-away"
    containers.remove_too(away)
    assert dispatch(server, other, "x").status_code == 200
    for old, new in [(name, away), (other, name), (away, other)]:
        containers.api.rename(old, new)
    wait_for(lambda: Instance.objects.filter(pk=other, leases__isnull=False), what="the work under the other name")
    another_falls_asleep(server, containers)
    assert containers.is_running(other)
    assert dispatch(server, name, "more").text == "working on: more\ndone\n"
    assert answer_after(other) == ANSWER


def test_the_next_container_of_its_name_is_another_one(server, containers, at_work):
    """As in a deploy that keeps the old container until its work has ended."""
    name, answer_after = at_work
    containers.remove_too(new := f"{name}-{uuid.uuid4().hex[:4]}")
    containers.api.rename(name, new)
    containers.create(name=name, **IDLE)
    assert dispatch(server, name, "for the next one").text == "working on: for the next one\ndone\n"
    another_falls_asleep(server, containers)
    wait_for(lambda: not containers.is_running(name), what="the sleep of the next one")
    assert containers.is_running(new)
    assert answer_after(new) == ANSWER


def test_work_in_one_that_is_renamed_breaks_off_only_if_its_container_ends(server, containers, at_work):
    name, answer_after = at_work
    containers.remove_too(new := f"{name}-old")
    containers.api.rename(name, new)
    wait_for(lambda: Instance.objects.filter(pk=new, leases__isnull=False), what="the work under the new name")
    assert httpx.get(f"{server.url}/api/instances/{new}", headers=server.bearer).json()["leases"][0]["works"] == 1
    containers.api.kill(new)
    wait_for(lambda: not containers.is_running(new))
    assert answer_after(new) != ANSWER
