"""A real Chromium in front of real web processes."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from events.log import record
from lifecycle.models import EngineStatus, Instance
from tests.browser.proxy import Proxy
from tests.conftest import need
from tests.servers import Server, database_url

PASSWORD = "correct horse battery staple"
REFUSED = (
    "net::ERR_",
    "status of 401",
    "status of 403",
    "status of 500",
    "status of 503",
)  # a browser reports each request that fails

expect.set_options(timeout=30_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.nodeid:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Starts Chromium for the tests of this folder, and ends it after them, and with it Playwright's event loop."""
    path = shutil.which("chromium")
    need("browser", path, "apt-get install chromium")
    # Playwright's loop runs in this thread, and Django takes that for an async view.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """Collect the browser's errors and violations of the Content-Security-Policy. There must be none."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def context(chromium: Browser, complaints: list[str]) -> Iterator[Callable[..., BrowserContext]]:
    """Makes fresh browser contexts, each as a browser of its own: `context(java_script_enabled=False)`."""
    contexts: list[BrowserContext] = []

    def watch(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(words in message.text for words in REFUSED):
            complaints.append(message.text)

    def make(**options: Any) -> BrowserContext:
        made = chromium.new_context(**options)
        made.on("console", watch)
        made.on("weberror", lambda error: complaints.append(str(error.error)))
        contexts.append(made)
        return made

    yield make
    for made in contexts:
        made.close()


@pytest.fixture
def browse(context: Callable[..., BrowserContext]) -> Callable[..., Page]:
    """Opens a page in a browser of its own."""
    return lambda **options: context(**options).new_page()


@pytest.fixture
def sign_in(context: Callable[..., BrowserContext]) -> Callable[..., Page]:
    """A page at `address`, whose person is signed in and whose zone is known, unless the test names one."""

    def enter(server: Server | Proxy, address: str = "/agents/", **options: object) -> Page:
        browser = context(**{"timezone_id": "UTC"} | options)
        cookies = {"sessionid": session()} if "timezone_id" in options else {"sessionid": session(), "zone": "UTC"}
        browser.add_cookies([{"name": name, "value": cookies[name], "url": server.url} for name in cookies])
        page = browser.new_page()
        page.goto(server.url + address)
        return page

    return enter


def session() -> str:
    """The key of a session of the operator's."""
    client = Client()
    client.force_login(User.objects.get(username="operator"))
    return client.cookies["sessionid"].value


@pytest.fixture
def operator(transactional_db: None) -> User:
    """May see events, and is nothing else."""
    user = User.objects.create_user("operator", password=PASSWORD)
    user.user_permissions.add(Permission.objects.get(codename="view_eventlog"))
    return user


@pytest.fixture(scope="package")
def web(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One web process for all tests that do nothing to it."""
    server = Server({"DATABASE_URL": database_url()}, log=tmp_path_factory.mktemp("web") / "server.log")
    yield server.wait_until_up()
    server.stop()


@pytest.fixture
def server(web: Server, operator: User) -> Server:
    """Start a server with a user "operator" who may view events."""
    return web


@pytest.fixture
def own_server(serve: Callable[..., Server], operator: User) -> Server:
    """A web process that a test may stop and kill."""
    return serve()


@pytest.fixture
def proxy(server: Server, tmp_path: Path) -> Iterator[Proxy]:
    """Provide a proxy in front of the server that can cut, stall and refuse connections."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def many(server: Server) -> Server:
    """Add 200 agents, of which some have each kind of trouble, and 60 events."""
    now = timezone.now()
    at, soon = now.isoformat(), (now + timedelta(minutes=4)).isoformat()
    EngineStatus.objects.create(engine="process", asked=now, answered=now, error="no such socket")
    kinds = [
        {"failure": {"run": 3, "at": at, "error": "exited with code 1 before it was ready"}},
        {"exit": {"at": at, "exit_code": 3, "cause": "exited", "ran_seconds": 184, "work_in_flight": 1}},
        {"state": "ready", "stop_failure": {"at": at, "error": "permission denied", "tries": 2, "next_try": soon}},
        {"label_error": "dormouse.port is “eighty”"},
        {"label_warning": "its restart policy is always"},
        {"state": "ready"},
        {"state": "starting"},
        {"state": "stopping"},
        {"run": 0, "last_used": None},
        {"present": False, "absent_since": now},
    ]
    usual = {"since": now, "run": 3, "last_used": now}
    rows = [
        Instance(name=f"agent-{number:03}", **usual | (kinds[number % 10] if number < 30 else {}))
        for number in range(200)
    ]
    Instance.objects.bulk_create(rows)
    for number in range(60):
        failed = {"error": "exited with code 1", "cause": "exited", "exit_code": 1, "log_tail": "Traceback\n" * 9}
        name = f"agent-{number:03}"
        record("container.lazy_started", instance=name, data={"latency_ms": 287 + number})
        if number % 10 == 0:
            record("container.lazy_start_failed", instance=name, data=failed)
    return server
