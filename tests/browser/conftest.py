"""A real Chromium in front of real web processes."""

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import Permission, User
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.conftest import need
from tests.servers import Server

PASSWORD = "correct horse battery staple"
REFUSED = ("net::ERR_", "status of 401", "status of 503")  # a browser reports each request that fails

expect.set_options(timeout=20_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.nodeid:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
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
    """What the browser complained of: any error, and any violation of the Content-Security-Policy. None is right."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def browse(chromium: Browser, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    """Opens a page in a fresh browser context: `browse(java_script_enabled=False)`."""
    contexts: list[BrowserContext] = []

    def watch(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(words in message.text for words in REFUSED):
            complaints.append(message.text)

    def open_page(**options: object) -> Page:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", watch)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def sign_in(browse: Callable[..., Page]) -> Callable[..., Page]:
    """A page whose person has signed in by the form and been led to `address`."""

    def enter(server: Server, address: str = "/agents/", **options: object) -> Page:
        page = browse(**options)
        page.goto(server.url + address)
        page.get_by_label("Username").fill("operator")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(server.url + address)
        return page

    return enter


@pytest.fixture
def server(serve: Callable[..., Server], chromium: Browser) -> Server:
    """With a user "operator", who may see events."""
    user = User.objects.create_user("operator", password=PASSWORD)
    user.user_permissions.add(Permission.objects.get(codename="view_eventlog"))
    return serve()
