"""What every test may use: settings of the suite's own, and real Dormouse processes."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from access.identity import tokens
from events.integrity import high_water
from tests import groups, shortcuts
from tests.servers import Server, database_url

#: Fixtures that start a web process or another program.
STARTS_PROGRAMS = {"serve", "shared_server", "process_rig", "start_site"}
REQUIRED = set(filter(None, os.environ.get("DORMOUSE_REQUIRE", "").split(",")))


def need(what: str, present: object, how: str) -> None:
    """Skips the test and says how to get `what`; fails instead where DORMOUSE_REQUIRE names it."""
    if present:
        return
    if what in REQUIRED:
        pytest.fail(f"DORMOUSE_REQUIRE names {what}, but it is missing: {how}", pytrace=False)
    pytest.skip(f"needs {what}: {how}")


def pytest_configure(config: pytest.Config) -> None:
    """Let the long forms of tests take as long as they need."""
    if os.environ.get("DORMOUSE_LONG"):
        config.option.timeout = 0


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test that starts a web process or another program."""
    if STARTS_PROGRAMS & set(getattr(item, "fixturenames", ())):
        item.add_marker("server")
    groups.check_group(item)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the groups of tests that take longest."""
    items.sort(key=groups.place_of)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> groups.ByGroup:
    """Let tests that use one engine run in one process."""
    return groups.ByGroup(config, log)


@pytest.fixture(scope="session", autouse=True)
def what_tests_share_is_done_once() -> Iterator[None]:
    with shortcuts.quick_flush(), shortcuts.static_files_found_once():
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """Forget the highest id of an earlier test database of the same name."""
    forget_highest_id()
    yield
    forget_highest_id()


@pytest.fixture(autouse=True)
def no_id_of_another_test_is_remembered(request: pytest.FixtureRequest) -> None:
    """Forget the ids of tests that were rolled back. Else the log would say that their events are gone."""
    if request.node.get_closest_marker("django_db") or "django_db_setup" in request.fixturenames:
        request.getfixturevalue("django_db_setup")  # before it, the mark is the one of the developer's own database
        forget_highest_id()


def forget_highest_id() -> None:
    high_water._marks.clear()
    high_water._untold.clear()
    high_water.mark_path().unlink(missing_ok=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test under daphne and uvicorn: always if it is marked so, and in the long form if its file is."""
    marked = metafunc.definition.get_closest_marker
    is_wanted = marked("uvicorn_too") or (marked("both_servers") and os.environ.get("DORMOUSE_LONG"))
    if is_wanted and "asgi_server" in metafunc.fixturenames:
        metafunc.parametrize("asgi_server", ["daphne", "uvicorn"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def asgi_server(request: pytest.FixtureRequest) -> str:
    """Return the name of the server under which web processes run."""
    server: str = getattr(request, "param", os.environ.get("DORMOUSE_TEST_SERVER", "daphne"))
    return server


@pytest.fixture
def serve(transactional_db: None, tmp_path: Path, asgi_server: str) -> Iterator[Callable[..., Server]]:
    """Starts real web processes on the test's database: `serve(DORMOUSE_ENGINE="process")`."""
    started: list[Server] = []

    def start(**environment: Any) -> Server:
        settings = {"DATABASE_URL": database_url(), "DORMOUSE_SERVER": asgi_server}
        server = Server(settings | environment, log=tmp_path / f"server-{len(started)}.log")
        started.append(server)
        return server.wait_until_up()

    yield start
    for server in started:
        server.stop()
        if server.environment.get("DORMOUSE_LOG_FORMAT") == "json":
            assert_each_line_is_json(server.log)


def assert_each_line_is_json(log: Path) -> None:
    """Assert that `tail -f` of the log could go through jq, whatever the test did."""
    for line in log.read_text().splitlines():
        assert line.startswith("{"), line
        json.loads(line)


class AtOnce:
    """Writes the last use at once, in the test's own transaction."""

    def submit(self, write, *arguments):
        write(*arguments)


@pytest.fixture
def uses_are_written_at_once(monkeypatch):
    monkeypatch.setattr(tokens, "_writer", AtOnce())
    monkeypatch.setattr("access.identity.tokens.connection.close", lambda: None)
