"""Clients that others wrote connect, resume after a crash, and are told of what was pruned."""

import shutil
from contextlib import ExitStack

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client

from events.log import record
from events.models import EventLog
from tests.clients.following import CURL, NODE, Following, follow
from tests.conftest import need
from tests.servers import wait_for


@pytest.fixture
def cookie(transactional_db):
    """Return the session cookie of a user who may view events."""
    user = User.objects.create_user("viewer")
    user.user_permissions.add(Permission.objects.get(codename="view_eventlog"))
    client = Client()
    client.force_login(user)
    return f"{settings.SESSION_COOKIE_NAME}={client.session.session_key}"


def make(count):
    return [record("a.b").id for _ in range(count)]


def all_heard(clients, ids):
    """Waits until each has heard the last of `ids`; then they are what each has heard, once and in order."""

    def have_heard():
        assert all(client.process.poll() is None for client in clients.values()), complaints(clients)
        return all(client.ids[-1:] == ids[-1:] for client in clients.values())

    wait_for(have_heard, what=f"{ids} in { ({name: client.heard for name, client in clients.items()}) }")
    assert {name: client.ids for name, client in clients.items()} == dict.fromkeys(clients, ids)


def complaints(clients):
    return {name: client.errors for name, client in clients.items()}


def tell(server, clients):
    """Some events; a crash, and events that happen meanwhile; another, and a prune that overtakes everybody."""
    heard = make(3)
    all_heard(clients, heard)

    server.kill()
    heard += make(3)
    server.start().wait_until_up()
    heard += make(1)
    all_heard(clients, heard)
    assert not any(type == "stream-reset" for client in clients.values() for type, _ in client.heard)

    server.kill()
    pruned, kept = make(3), make(2)
    EventLog.objects.prune(pruned[-1])
    server.start().wait_until_up()
    all_heard(clients, heard + kept)
    for client in clients.values():
        resets = [place for place, (type, _) in enumerate(client.heard) if type == "stream-reset"]
        assert len(resets) == 1
        assert client.heard[resets[0]] == ("stream-reset", pruned[-1])
        assert [id for type, id in client.heard[resets[0] :] if type == "a.b"] == kept


@pytest.fixture
def story(serve, cookie):
    """Runs it with `story([name, ...])`."""
    with ExitStack() as stack:

        def run(names):
            server = serve()
            start = record("start").id
            clients: dict[str, Following] = {}
            for name in names:
                clients[name] = follow(name, server, start, cookie)
                stack.callback(clients[name].stop)
            wait_for(lambda: all(client.heard for client in clients.values()), what="every client to connect")
            tell(server, clients)

        yield run


def test_python_and_curl(story):
    assert shutil.which("curl"), "apt-get install curl"
    story([CURL, "httpx-sse", "requests-sse"])


@pytest.mark.node
@pytest.mark.usefixtures("node_modules")
def test_node(story):
    story(list(NODE))


@pytest.mark.browser
def test_chromium(story):
    need("browser", shutil.which("chromium"), "apt-get install chromium")
    story(["chromium"])
