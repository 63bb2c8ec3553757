"""The fixture `rig` gives each engine in turn; `fake_rig`, `process_rig` and the like give one engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from tests.docker.support.engine import HOST, docker_api
from tests.docker.support.podman import PODMAN_HOST, podman_api
from tests.engines.rigs import DockerRig, FakeRig, PodmanRig, ProcessRig, Rig, SwarmRig
from tests.swarm import support as swarm_support
from tests.swarm.fixtures import swarm_api

__all__ = ["docker_api", "podman_api", "swarm_api"]
ENGINES = [
    "fake",
    "process",
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("podman", marks=pytest.mark.docker),
    pytest.param("swarm", marks=pytest.mark.swarm),
]


@pytest.fixture(params=ENGINES)
def rig(request: pytest.FixtureRequest) -> Rig:
    found: Rig = request.getfixturevalue(f"{request.param}_rig")
    return found


@pytest.fixture
def fake_rig() -> Iterator[FakeRig]:
    rig = FakeRig()
    yield rig
    rig.close()


@pytest.fixture
def process_rig(tmp_path: Path) -> Iterator[ProcessRig]:
    rig = ProcessRig(tmp_path)
    yield rig
    rig.close()


@pytest.fixture
def docker_rig(docker_api: APIClient) -> Iterator[DockerRig]:
    rig = DockerRig(docker_api, HOST)
    yield rig
    rig.close()


@pytest.fixture
def swarm_rig(swarm_api: APIClient) -> Iterator[SwarmRig]:
    rig = SwarmRig(swarm_api, swarm_support.HOST)
    yield rig
    rig.close()


@pytest.fixture
def podman_rig(podman_api: APIClient) -> Iterator[PodmanRig]:
    rig = PodmanRig(podman_api, PODMAN_HOST)
    yield rig
    rig.close()
