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
    "DOCKER_GROUP": "10002",
    "DOCKER_SOCKET": HOST.removeprefix("unix://"),
    "DJANGO_ALLOWED_HOSTS": "dormouse.example.org",
}
#: Its settings that are kept by the swarm, by the names of the secrets.
SECRETS = {"dormouse-database-url": "postgres://nobody@127.0.0.1/none", "dormouse-secret-key": "a-secret-of-this-test"}


def docker(*words: str) -> str:
    """Return what the docker command prints. Raises CalledProcessError if it fails."""
    command = ["docker", "--host", HOST, *words]
    environment = os.environ | ENVIRONMENT
    return subprocess.run(
        command, cwd=PROJECT, env=environment, check=True, capture_output=True, text=True, timeout=120
    ).stdout


@pytest.fixture(scope="module")
def stack(swarm_api) -> Iterator[None]:
    for name, value in SECRETS.items():
        swarm_api.create_secret(name, value.encode())
    docker("stack", "deploy", "--compose-file", "deploy/stack.yaml", STACK)
    yield
    docker("stack", "rm", STACK)
    wait_for(lambda: not swarm_api.networks(names=[f"{STACK}_agents", f"{STACK}_web"]), what="the end of the stack")
    for name in SECRETS:
        swarm_api.remove_secret(name)


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


def test_the_secrets_of_the_stack_are_in_files_of_its_user_and_no_port_is_published(stack, swarm_api):
    spec = swarm_api.inspect_service(f"{STACK}_dormouse")["Spec"]
    assert not [value for value in SECRETS.values() if value in str(spec)]
    assert "Ports" not in spec["EndpointSpec"]
    container = wait_for(lambda: swarm_api.containers(filters={"name": f"{STACK}_dormouse"}), what="its container")[0]
    for name, value in SECRETS.items():
        read = ["cat", f"/run/secrets/{name}"]
        assert docker("exec", container["Id"], *read) == value
        with pytest.raises(subprocess.CalledProcessError) as refused:
            docker("exec", "--user", "10002", container["Id"], *read)
        assert "Permission denied" in refused.value.stderr
