"""Everything here needs a Docker Engine of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docker.engine import HOST, containers, docker_api
from tests.servers import Server

__all__ = ["containers", "docker_api"]


@pytest.fixture
def server(docker_api: object, serve: Callable[..., Server]) -> Iterator[Server]:
    server = serve(DORMOUSE_ENGINE="docker", DORMOUSE_SUPERVISOR="embedded", DOCKER_HOST=HOST)
    yield server
    print(server.log.read_text())  # pytest shows it with a failure


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("docker")
