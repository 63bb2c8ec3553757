import threading
from collections.abc import Iterator

import pytest

from tests.servers import Server, database_url, wait_for


@pytest.fixture(scope="module")
def shared_server(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory, asgi_server: str
) -> Iterator[Server]:
    """One web process for the tests of a module that only read from it: to start one takes a second."""
    settings = {"DATABASE_URL": database_url(), "DORMOUSE_SERVER": asgi_server}
    server = Server(settings, log=tmp_path_factory.mktemp("shared") / "server.log")
    yield server.wait_until_up()
    server.stop()


@pytest.fixture
def server(shared_server: Server, transactional_db: None) -> Server:
    return shared_server


@pytest.fixture(autouse=True)
def no_tail_outlives_its_readers() -> Iterator[None]:
    yield
    wait_for(lambda: not any(thread.name.startswith("events-") for thread in threading.enumerate()))
