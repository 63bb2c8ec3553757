"""A real Firefox ESR in front of real web processes."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.browser.conftest import session
from tests.browser.firefox.bidi import Firefox, Tab, firefox_in
from tests.browser.proxy import Proxy
from tests.conftest import need
from tests.servers import Server

SignIn = Callable[..., Tab]


@pytest.fixture(scope="package")
def running_firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    program = shutil.which("firefox-esr")
    need("firefox", program, "apt-get install firefox-esr")
    with firefox_in(tmp_path_factory.mktemp("firefox"), str(program)) as firefox:
        yield firefox


@pytest.fixture
def firefox(running_firefox: Firefox) -> Iterator[Firefox]:
    """Provide Firefox. Its console must have no error, warning or violation of the Content-Security-Policy."""
    running_firefox.complaints.clear()
    yield running_firefox
    running_firefox.send("session.status")  # what was complained of before comes before the answer
    assert running_firefox.complaints == []


@pytest.fixture
def open_tab(firefox: Firefox) -> Iterator[Callable[[], Tab]]:
    """Opens a tab of a person of its own, who shares no cookie, storage or lock with others."""
    persons: list[str] = []

    def create() -> Tab:
        persons.append(firefox.send("browser.createUserContext")["userContext"])
        return Tab(firefox, persons[-1])

    yield create
    for person in persons:
        firefox.send("browser.removeUserContext", userContext=person)


@pytest.fixture
def sign_in(open_tab: Callable[[], Tab]) -> SignIn:
    """A tab at `address`, whose person is signed in and whose zone is known."""

    def enter(server: Server | Proxy, address: str = "/agents/") -> Tab:
        tab = open_tab()
        for name, value in {"sessionid": session(), "zone": "UTC"}.items():
            tab.firefox.send(
                "storage.setCookie",
                cookie={"name": name, "value": {"type": "string", "value": value}, "domain": "127.0.0.1"},
                partition={"type": "storageKey", "userContext": tab.person},
            )
        tab.visit(server.url + address)
        return tab

    return enter
