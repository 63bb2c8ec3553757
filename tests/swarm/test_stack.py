"""The stack file of `deploy/`, deployed by the docker command."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from lifecycle.engines.base import Phase
from lifecycle.engines.docker.addresses import Viewpoint
from lifecycle.engines.labels import Labels
from lifecycle.engines.swarm.inspection import inspection
from tests.servers import PROJECT, wait_for
from tests.swarm.support import HOST, IMAGE

STACK = "deployed"
#: The stack's own Dormouse is no part of this test: the agent's image stands in its place.
ENVIRONMENT = {
    "DORMOUSE_IMAGE": IMAGE,
    "REVIEWER_IMAGE": IMAGE,
    "DATABASE_URL": "postgres://nobody@127.0.0.1/none",
    "DJANGO_SECRET_KEY": "a-secret-of-this-test",
    "DJANGO_ALLOWED_HOSTS": "dormouse.example.org",
}


def docker(*words: str) -> None:
    command = ["docker", "--host", HOST, *words]
    subprocess.run(command, cwd=PROJECT, env=os.environ | ENVIRONMENT, check=True, capture_output=True, timeout=120)


@pytest.fixture
def stack(swarm_api) -> Iterator[None]:
    docker("stack", "deploy", "--compose-file", "deploy/stack.yaml", STACK)
    yield
    docker("stack", "rm", STACK)
    wait_for(lambda: not swarm_api.networks(names=[f"{STACK}_agents"]), what="the end of the stack")


def test_the_agent_of_the_stack_sleeps_wakes_and_is_reached_on_the_network_of_dormouse(stack, engine, monkeypatch):
    name = f"{STACK}_reviewer"
    assert [one.name for one in engine.instances() if one.name.startswith(STACK)] == [name]
    beside_it = Viewpoint(own_networks={f"{STACK}_agents": ""})
    asleep = inspection(engine._read(name)[0], "", beside_it)
    assert isinstance(asleep.labels, Labels)
    assert (asleep.phase, asleep.labels.port, asleep.warnings) == (Phase.CREATED, 9000, ())
    monkeypatch.setattr(engine._viewpoints, "of", lambda api: beside_it)
    engine.start(name)
    [(address, port)] = engine.inspect(name).addresses
    assert (address.startswith("10."), port) == (True, 9000)
    engine.stop(name, 5)
