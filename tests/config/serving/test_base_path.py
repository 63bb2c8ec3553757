"""Everything is served below DORMOUSE_BASE_PATH, and only the health checks without it too."""

import asyncio
import os
import re
import subprocess
import sys

import httpx
import pytest
from django.contrib.auth.models import User

from config.serving.base_path import BasePath
from events.log import record
from tests.config.agents import agents_file
from tests.config.serving.strangers.test_strangers import WEBSOCKET
from tests.servers import PROJECT

#: The hardest one: it begins as one of Dormouse's own paths does.
BASE = "/agents"


@pytest.fixture
def server(serve, tmp_path):
    with agents_file(tmp_path) as environment:
        yield serve(DORMOUSE_BASE_PATH=BASE + "/", **environment)


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def sign_in(client):
    User.objects.create_superuser("admin", password="admin")
    page = client.get(f"{BASE}/accounts/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
    return client.post(
        f"{BASE}/accounts/login/", data={"username": "admin", "password": "admin", "csrfmiddlewaretoken": token}
    )


def test_health_checks_are_answered_with_and_without_it(client):
    for path in ("/healthz", "/readyz"):
        assert [client.get(before + path).text for before in ("", BASE)] == ["ok\n", "ok\n"]


REDIRECTS = {
    "": f"{BASE}/",
    "/": f"{BASE}/agents/",
    "/agents/": f"{BASE}/accounts/login/?next={BASE}/agents/",
    "/agents": f"{BASE}/agents/",
    "/admin/": f"{BASE}/admin/login/?next={BASE}/admin/",
    "/favicon.ico": f"{BASE}/static/agents_ui/dormouse.svg",
}


def test_redirects_lead_below_it(client):
    assert {path: client.get(BASE + path).headers["location"] for path in REDIRECTS} == REDIRECTS


def test_a_signed_in_person_finds_every_link_and_file_below_it(client):
    answer = sign_in(client)
    assert answer.headers["location"] == f"{BASE}/agents/"
    assert {(cookie.name, cookie.path) for cookie in client.cookies.jar} == {
        ("sessionid-agents", BASE),
        ("csrftoken-agents", BASE),
    }
    pages = [client.get(f"{BASE}{path}") for path in ("/agents/", "/admin/", "/admin/events/eventlog/")]
    links = {
        link for page in pages for link in re.findall(r'(?:href|src|action|data-url|data-stream)="(/[^"]*)"', page.text)
    }
    assert len(links) > 20
    assert [link for link in links if not f"{link}/".startswith(f"{BASE}/")] == []
    files = [link for link in links if link.startswith(f"{BASE}/static/")]
    assert {client.get(file).status_code for file in files} == {200}


def test_static_files_are_compressed_below_it(client):
    assert client.get(f"{BASE}/static/agents_ui/stream.js").headers["content-encoding"] == "gzip"


def test_programs_dispatch_and_read_below_it(client, server):
    work = client.post(f"{BASE}/api/instances/works/dispatch", content=b"0", headers=server.bearer)
    assert (work.status_code, work.text) == (200, "done")
    record("a.b")
    with client.stream("GET", f"{BASE}/events?after=0", headers=server.bearer) as stream:
        assert stream.status_code == 200
        assert "container.lazy_started" in next(line for line in stream.iter_lines() if "container." in line)
    missing = client.get(f"{BASE}/api/none", headers=server.bearer)
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    described = client.get(f"{BASE}/api/openapi.json", headers=server.bearer).json()
    assert described["servers"] == [{"url": BASE}]


def test_websockets_are_refused_below_it_and_elsewhere(client):
    assert [client.get(path, headers=WEBSOCKET).status_code for path in ("/x", f"{BASE}/x")] == [403, 403]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["dormouse", "/a b", "/a/../b", "/a//b"])
def test_a_value_that_is_no_path_is_refused(path):
    command = [sys.executable, "manage.py", "check"]
    environment = os.environ | {"DORMOUSE_BASE_PATH": path}
    ended = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode
    assert "DORMOUSE_BASE_PATH is" in ended.stderr


def ask(base, **scope):
    """Return the scopes that reach an application behind the middleware, and what the middleware answers itself."""
    scopes, sent = [], []

    async def app(scope, receive, send):
        scopes.append(scope)

    async def send(message):
        sent.append(message)

    asyncio.run(BasePath(app, base)(scope, None, send))
    return scopes, sent


@pytest.mark.parametrize("path", ["/", "/accounts/login/", "/events", "/api/instances", "/other/agents/", "/agentsx/"])
@pytest.mark.parametrize("before", ["", "/"])
def test_whatever_is_not_below_it_is_404(before, path):
    scopes, (start, body) = ask(BASE, type="http", path=before + path)
    assert (scopes, start["status"]) == ([], 404)
    assert "Dormouse is at /agents/ (DORMOUSE_BASE_PATH)" in body["body"].decode()


@pytest.mark.parametrize(
    ("base", "path", "root_path"),
    [("", "/x", ""), ("/a", "/a/x", "/a"), ("/a", "/healthz", ""), ("/a", "/a/healthz", "/a"), ("/a", "/a/a/x", "/a")],
)
def test_the_servers_own_root_path_is_ignored(base, path, root_path):
    scopes, _ = ask(base, type="http", path=path, root_path="/servers-own")
    assert [(one["path"], one["root_path"]) for one in scopes] == [(path, root_path)]


def test_a_lifespan_passes():
    assert len(ask("/a", type="lifespan")[0]) == 1
