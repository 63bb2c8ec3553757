"""The Docker Engine of the suite's own, as fixtures."""

import os
from collections.abc import Iterator

import pytest
from docker import APIClient

from tests.conftest import need
from tests.docker.containers import BUSYBOX, IMAGE, Containers, image

HOST = os.environ.get("DORMOUSE_TEST_DOCKER_HOST", "")
HOW = ".ci/dockerd start DIR (as root; needs docker.io), then export DORMOUSE_TEST_DOCKER_HOST=what it printed"


@pytest.fixture(scope="session")
def docker_api() -> Iterator[APIClient]:
    """The engine's API, with the agent's image in it. Never the user's engine: its containers would be stopped."""
    need("docker", HOST, HOW)
    need("docker", BUSYBOX.exists(), "apt-get install busybox-static")
    api = APIClient(base_url=HOST, version="auto", timeout=120)
    api.import_image_from_data(image(), repository=IMAGE, changes=["CMD /agent"])
    yield api
    api.close()


@pytest.fixture
def containers(docker_api: APIClient) -> Iterator[Containers]:
    found = Containers(docker_api)
    yield found
    found.remove_all()
