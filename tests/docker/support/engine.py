"""The Docker Engine of the suite's own, as fixtures."""

import fcntl
import functools
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from tests.conftest import need
from tests.docker.support.containers import BUSYBOX, IMAGE, Containers, image

HOST = os.environ.get("DORMOUSE_TEST_DOCKER_HOST", "")
HOW = ".ci/dockerd start DIR (as root; needs docker.io), then export DORMOUSE_TEST_DOCKER_HOST=what it printed"


@functools.cache
def be_alone(host: str = HOST) -> int:
    """One suite at a time on an engine: the supervisor of another would stop this one's idle containers."""
    lock = Path(tempfile.gettempdir()) / f"dormouse-tests-{hashlib.sha256(host.encode()).hexdigest()[:16]}.lock"
    held = os.open(lock, os.O_WRONLY | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    return held


@pytest.fixture(scope="session")
def docker_api() -> Iterator[APIClient]:
    """The engine's API, with the agent's image in it. Never the user's engine: its containers would be stopped."""
    need("docker", HOST, HOW)
    need("docker", BUSYBOX.exists(), "apt-get install busybox-static")
    be_alone()
    api = APIClient(base_url=HOST, version="auto", timeout=120)
    api.import_image_from_data(image(), repository=IMAGE, changes=["CMD /agent"])
    yield api
    api.close()


@pytest.fixture
def containers(docker_api: APIClient) -> Iterator[Containers]:
    found = Containers(docker_api)
    yield found
    found.remove_all()
