"""Everything here needs a swarm of its own."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from docker import APIClient

from lifecycle.engines.swarm.engine import SwarmEngine
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.workers.heartbeats import ThisWorker
from tests.servers import Server
from tests.swarm.fixtures import services, swarm_api
from tests.swarm.support import HOST, Worker

__all__ = ["services", "swarm_api"]


@pytest.fixture(autouse=True)
def no_mark(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test has a database of its own, so the mark of the one before is no neighbour's, even if that was killed."""
    if "swarm_api" not in request.fixturenames:
        yield
        return
    with closing(SwarmEngine((HOST,))) as found:
        found.remove_mark()
        yield
        found.remove_mark()


@pytest.fixture
def engine(swarm_api: APIClient) -> Iterator[SwarmEngine]:
    found = SwarmEngine((HOST,))
    yield found
    found.close()


@pytest.fixture
def lifecycle(db: None, engine: SwarmEngine) -> Lifecycle:
    """A Dormouse of this process, without a supervisor."""
    worker = ThisWorker("test")
    worker.send_heartbeat()
    return Lifecycle(engine, worker)


@pytest.fixture
def serve_swarm(swarm_api: APIClient, serve: Callable[..., Server]) -> Iterator[Callable[..., Server]]:
    """Starts web processes that supervise the suite's swarm."""
    servers: list[Server] = []

    def start(**environment: str) -> Server:
        ours = {"DORMOUSE_ENGINE": "swarm", "DORMOUSE_SUPERVISOR": "embedded", "DORMOUSE_SWARM_MANAGERS": HOST}
        servers.append(serve(**ours | environment))
        return servers[-1]

    yield start
    for server in servers:
        print(server.log.read_text())  # pytest shows it with a failure


@pytest.fixture
def worker(swarm_api: APIClient) -> Iterator[Worker]:
    """The node that may be killed. It is brought back after the test."""
    found = Worker(swarm_api)
    yield found
    found.bring_back()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("swarm")
