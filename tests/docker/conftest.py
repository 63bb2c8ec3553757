"""Everything here needs a Docker Engine of its own."""

from pathlib import Path

import pytest

from tests.docker.engine import containers, docker_api

__all__ = ["containers", "docker_api"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("docker")
