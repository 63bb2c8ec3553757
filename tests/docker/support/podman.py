"""Podman's Docker-compatible API of the suite's own, as a fixture."""

import os
from collections.abc import Iterator

import pytest
from docker import APIClient

from tests.conftest import need
from tests.docker.support.containers import BUSYBOX, IMAGE, image

PODMAN_HOST = os.environ.get("DORMOUSE_TEST_PODMAN_HOST", "")
HOW = ".ci/podman start DIR (as root; needs podman), then export DORMOUSE_TEST_PODMAN_HOST=what it printed"


@pytest.fixture(scope="session")
def podman_api() -> Iterator[APIClient]:
    """The API, with the agent's image in it. Never the user's Podman: its containers would be stopped."""
    need("podman", PODMAN_HOST, HOW)
    need("podman", BUSYBOX.exists(), "apt-get install busybox-static")
    api = APIClient(base_url=PODMAN_HOST, version="auto", timeout=120)
    api.import_image_from_data(image(), repository=IMAGE, changes=["CMD /agent"])
    yield api
    api.close()
