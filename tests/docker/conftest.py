"""Everything here needs a Docker Engine of its own."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import APIClient

from lifecycle.engines.docker.engine import DockerEngine
from lifecycle.supervision.supervisor import Supervisor
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.workers.heartbeats import ThisWorker
from tests.docker.support.containers import remove_marks
from tests.docker.support.engine import HOST, containers, docker_api
from tests.docker.support.engine_log import EngineLog
from tests.docker.support.faulty_proxy import FaultyProxy
from tests.docker.support.own_engine import own_engine
from tests.servers import Server, wait_for

__all__ = ["containers", "docker_api", "own_engine"]


@pytest.fixture(autouse=True)
def without_marks(docker_api: APIClient) -> Iterator[None]:
    """Each test has a database of its own, so it is a neighbour of the test before."""
    remove_marks(docker_api)
    yield
    remove_marks(docker_api)


@pytest.fixture
def serve_docker(docker_api: object, serve: Callable[..., Server]) -> Iterator[Callable[..., Server]]:
    """Starts web processes that supervise the suite's engine."""
    servers: list[Server] = []

    def start(**environment: str) -> Server:
        ours = {"DORMOUSE_ENGINE": "docker", "DORMOUSE_SUPERVISOR": "embedded", "DOCKER_HOST": HOST}
        ours["DORMOUSE_LOG_FORMAT"] = "json"  # so `serve` looks whether each line of the log is JSON
        servers.append(serve(**ours | environment))
        return servers[-1]

    yield start
    for server in servers:
        print(server.log.read_text())  # pytest shows it with a failure


@pytest.fixture
def server(serve_docker: Callable[..., Server]) -> Server:
    return serve_docker()


@pytest.fixture
def lifecycle(db: None, docker_api: object) -> Iterator[Lifecycle]:
    """A Dormouse of this process, without a supervisor."""
    engine = DockerEngine(os.environ | {"DOCKER_HOST": HOST})
    worker = ThisWorker("test")
    worker.send_heartbeat()
    yield Lifecycle(engine, worker)
    for client in engine._clients.values():
        client.close()


@pytest.fixture
def proxy(docker_api: object) -> Iterator[FaultyProxy]:
    found = FaultyProxy()
    yield found
    found.close()


@pytest.fixture
def behind_proxy(lifecycle: Lifecycle, proxy: FaultyProxy) -> Iterator[Lifecycle]:
    """The same, whose engine is behind a proxy that plays faults."""
    engine = DockerEngine(os.environ | {"DOCKER_HOST": proxy.host})
    yield Lifecycle(engine, lifecycle.worker)
    for client in engine._clients.values():
        client.close()


@pytest.fixture
def supervised(transactional_db: None, lifecycle: Lifecycle) -> Iterator[Lifecycle]:
    """The same, with one."""
    ended = threading.Event()
    sweeping = threading.Thread(target=Supervisor(lifecycle).run, args=[ended])
    sweeping.start()
    yield lifecycle
    ended.set()
    sweeping.join()
    wait_for(lambda: not any(thread.name == "transition" for thread in threading.enumerate()))


@pytest.fixture
def engine_log(docker_api: APIClient) -> Iterator[EngineLog]:
    log = EngineLog(docker_api)
    yield log
    log.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("docker")
