"""The swarm of the suite's own, as fixtures."""

from collections.abc import Iterator

import pytest
from docker import APIClient

from tests.conftest import need
from tests.docker.support.containers import BUSYBOX
from tests.docker.support.engine import be_alone
from tests.swarm.support import HOST, HOW, Services, connect, load_image, node_host


@pytest.fixture(scope="session")
def swarm_api() -> Iterator[APIClient]:
    """The manager's API, with the agent's image on both nodes. Never the user's swarm."""
    need("swarm", HOST, HOW)
    need("swarm", BUSYBOX.exists(), "apt-get install busybox-static")
    be_alone(HOST)
    for node in ("manager", "worker"):
        api = connect(node_host(node))
        load_image(api)
        api.close()
    api = connect(HOST)
    yield api
    api.close()


@pytest.fixture
def services(swarm_api: APIClient) -> Iterator[Services]:
    found = Services(swarm_api)
    yield found
    found.remove_all()
