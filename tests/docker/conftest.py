"""Everything here needs a Docker Engine of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docker.engine import HOST, containers, docker_api
from tests.servers import Server

__all__ = ["containers", "docker_api"]


@pytest.fixture
def server(docker_api: object, serve: Callable[..., Server]) -> Server:
    return serve(DORMOUSE_ENGINE="docker", DORMOUSE_SUPERVISOR="embedded", DOCKER_HOST=HOST)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("docker")
