"""The whole way on Podman's Docker-compatible API."""

import os
import signal

import pytest

from tests.docker.support.containers import Containers, remove_marks
from tests.docker.support.from_outside import WORK, dispatch, logged, types
from tests.docker.support.podman import PODMAN_HOST, podman_api
from tests.servers import wait_for

__all__ = ["podman_api"]


@pytest.fixture
def containers(podman_api):
    found = Containers(podman_api)
    remove_marks(podman_api)
    yield found
    found.remove_all()
    remove_marks(podman_api)


@pytest.fixture
def server(containers, serve):
    found = serve(DORMOUSE_ENGINE="docker", DORMOUSE_SUPERVISOR="embedded", DOCKER_HOST=PODMAN_HOST)
    yield found
    print(found.log.read_text())  # pytest shows it with a failure


def awake(server, containers, **labels):
    """Return the name of a new agent that work has woken."""
    name = containers.create(**WORK, **labels)
    answer = dispatch(server, name, "the work")
    assert (answer.status_code, answer.text) == (200, "working on: the work\ndone\n")
    return name


def test_it_is_woken_and_put_to_sleep_when_it_is_idle(server, containers):
    name = awake(server, containers, idle_timeout="1s")
    wait_for(lambda: types(name) == ["lazy_started", "lazy_stopped"])
    assert not containers.is_running(name)


def test_it_is_paused_and_resumed(server, containers):
    name = awake(server, containers, idle_timeout="1s", sleep="pause")
    wait_for(lambda: containers.state(name)["Status"] == "paused")
    assert dispatch(server, name, "more").status_code == 200
    assert logged(name)[-1].data.get("mode") == "pause"


def test_one_that_is_killed_has_exited(server, containers):
    name = awake(server, containers)
    os.kill(containers.state(name)["Pid"], signal.SIGKILL)
    wait_for(lambda: types(name) == ["lazy_started", "exited"])
    assert logged(name)[-1].data["exit_code"] == 137


def test_one_that_a_person_stops_is_woken_by_the_next_work(server, containers):
    """Whether that is told as an exit is left open: Podman 4.3 does not always tell of a person's stop."""
    name = awake(server, containers)
    containers.api.stop(name, timeout=5)
    assert dispatch(server, name, "more").status_code == 200
    assert [type for type in types(name) if type != "exited"] == ["lazy_started", "lazy_started"]


def test_a_command_that_does_not_exist_is_told_with_its_code(server, containers):
    name = containers.create(command=["/no/such/program"])
    answer = dispatch(server, name)
    assert answer.status_code == 503
    assert (answer.json()["cause"], answer.json()["exit_code"]) == ("start_rejected", 127)
    assert answer.json()["error"].startswith("its command does not exist: ")
