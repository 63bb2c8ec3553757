"""What every test may use: settings of the suite's own, and real Dormouse processes."""

import os

# Read by config.settings, so before Django is set up. Nothing of the caller's environment may leak in.
for name in [name for name in os.environ if name.startswith(("DORMOUSE_", "DJANGO_")) or name == "DATABASE_URL"]:
    if not name.startswith(("DORMOUSE_TEST_", "DORMOUSE_REQUIRE", "DORMOUSE_LONG", "DJANGO_SETTINGS_MODULE")):
        del os.environ[name]
os.environ["DORMOUSE_SUPERVISOR"] = "external"
os.environ["DORMOUSE_API_TOKEN"] = "the-tests-token"  # noqa: S105
os.environ["DORMOUSE_ENGINE"] = "process"
if "DORMOUSE_TEST_DATABASE_URL" in os.environ:  # tests/postgres runs a part of the suite anew, on PostgreSQL
    os.environ["DATABASE_URL"] = os.environ["DORMOUSE_TEST_DATABASE_URL"]

from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402
from django.test import TransactionTestCase  # noqa: E402

from events import append_only  # noqa: E402
from tests.servers import Server, database_url  # noqa: E402

REQUIRED = set(filter(None, os.environ.get("DORMOUSE_REQUIRE", "").split(",")))


def need(what: str, present: object, how: str) -> None:
    """Skips the test and says how to get `what`; fails instead where DORMOUSE_REQUIRE names it."""
    if present:
        return
    if what in REQUIRED:
        pytest.fail(f"DORMOUSE_REQUIRE names {what}, but it is missing: {how}", pytrace=False)
    pytest.skip(f"needs {what}: {how}")


@pytest.fixture(scope="session", autouse=True)
def the_log_can_be_emptied_after_a_test() -> Iterator[None]:
    """The triggers of the log refuse the flush of a transactional test; they come back with its post_migrate."""
    flush = TransactionTestCase._fixture_teardown

    def without_triggers(case: TransactionTestCase) -> None:
        append_only.remove()
        flush(case)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", without_triggers)
        yield


@pytest.fixture
def serve(transactional_db: None, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts real web processes (daphne) on the test's database: `serve(DORMOUSE_ENGINE="process")`."""
    started: list[Server] = []

    def start(**environment: Any) -> Server:
        server = Server({"DATABASE_URL": database_url()} | environment, log=tmp_path / f"server-{len(started)}.log")
        started.append(server)
        return server.wait_until_up()

    yield start
    for server in started:
        server.stop()
