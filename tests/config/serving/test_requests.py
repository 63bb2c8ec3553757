"""The id of each request, and one format for every line of the log."""

import asyncio
import json
import re
import subprocess
import sys

import httpx
import pytest

from config.serving.requests import MAX_PATH_CHARACTERS, LogRequests
from lifecycle.engines.process.engine import ProcessEngine
from lifecycle.models import Instance
from tests.servers import PROJECT, free_port, wait_for

AGENT = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Agent(BaseHTTPRequestHandler):
    def answer(self):
        self.send_response(200)
        self.send_header("X-Request-ID", "of-the-agent")
        self.end_headers()
        self.wfile.write(self.headers.get("X-Request-ID", "none").encode())
    do_GET = do_POST = answer

HTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
"""

#: A warning, an error in a thread, and an error that ends the process.
ERRORS = """
import os, threading, warnings
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
import django
django.setup()
warnings.warn("one")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
{}["x"]
"""


@pytest.fixture
def site(serve, tmp_path):
    """A web process that supervises an agent which works and one which fails, and logs JSON."""
    (tmp_path / "agent.py").write_text(AGENT)
    port, agents = free_port(), tmp_path / "agents.toml"
    command = json.dumps([sys.executable, "agent.py", str(port)])
    works = f"[works]\ncommand = {command}\nport = {port}\nidle-timeout = '1s'\nready = 'tcp'\n"
    agents.write_text(f"{works}[fails]\ncommand = \"sh -c 'echo {{; exit 3'\"\nport = {free_port()}\n")
    environment = {"DORMOUSE_AGENTS_FILE": str(agents), "DORMOUSE_RUN_DIR": str(tmp_path / "run")}
    yield serve(DORMOUSE_LOG_FORMAT="json", DORMOUSE_SUPERVISOR="embedded", **environment)
    ProcessEngine(agents, tmp_path / "run").stop("works", 5)


def lines_of(server):
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def dispatch(server, name, **headers):
    url = f"{server.url}/api/instances/{name}/dispatch"
    return httpx.post(url, content=b"x", headers=server.bearer | headers, timeout=60)


def test_every_line_of_a_life_is_json(site):
    answer = dispatch(site, "works", **{"X-Request-ID": "caller-7"})
    assert answer.text == "caller-7"
    assert answer.headers.get_list("x-request-id") == ["caller-7"]
    failed = dispatch(site, "fails")
    assert failed.status_code == 503
    httpx.get(f"{site.url}/no/such\u2028page")
    httpx.get(f"{site.url}/agents/", headers={"Host": "elsewhere"})
    httpx.post(f"{site.url}/accounts/login/", data={"username": "x", "password": "y"})
    with httpx.stream("GET", f"{site.url}/events", headers=site.bearer):
        pass
    wait_for(lambda: Instance.objects.get(pk="works").state == "asleep", what="the stop")
    site.stop()
    lines = lines_of(site)
    of_failure = [line for line in lines if line.get("request_id") == failed.headers["x-request-id"]]
    assert [(line["level"], line["logger"]) for line in of_failure] == [
        ("WARNING", "lifecycle.transitions.claims"),
        ("INFO", "config.serving.requests"),
    ]
    started = next(line for line in lines if line["message"].startswith("works started"))
    assert started["request_id"] == "caller-7"
    of_dispatch = [line for line in lines if line.get("path") == "/api/instances/works/dispatch"]
    assert [(line["method"], line["status"], line["client"]) for line in of_dispatch] == [("POST", 200, "127.0.0.1")]
    assert any(line["message"].startswith("works stopped") for line in lines)
    assert any(line.get("path") == "/events" for line in lines)


@pytest.mark.server
def test_an_error_of_the_process_is_json(tmp_path):
    command = [sys.executable, "-W", "always", "-c", ERRORS]
    environment = {"DORMOUSE_LOG_FORMAT": "json", "DORMOUSE_VAR_DIR": str(tmp_path)}
    run = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [line["logger"] for line in lines] == ["py.warnings", "python", "python"]
    assert "ZeroDivisionError" in lines[1]["exception"]
    assert "KeyError" in lines[2]["exception"]


@pytest.mark.server
@pytest.mark.parametrize("name", ["DORMOUSE_LOG_FORMAT", "DORMOUSE_LOG_LEVEL"])
def test_a_setting_in_error_is_named(name, tmp_path):
    command = [sys.executable, "manage.py", "check"]
    environment = {name: "loud", "DORMOUSE_VAR_DIR": str(tmp_path)}
    run = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert f"{name} is '" in run.stderr


async def run_request(given=None, path="/agents/", messages=None, scope=None):
    """Return what the application got, and what was sent."""
    seen, sent = [], []
    messages = messages or [{"type": "http.response.start", "status": 200, "headers": [(b"X-Request-Id", b"agents")]}]

    async def application(scope, receive, send):
        seen.append(dict(scope["headers"])[b"x-request-id"].decode())
        for message in messages:
            await send(message)

    async def send(message):
        sent.append(message)

    headers = [] if given is None else [(b"x-request-id", given), (b"x-request-id", b"second")]
    asked = {"type": "http", "method": "GET", "path": path, "headers": headers, "client": ("::1", 1)}
    await LogRequests(application)(asked | (scope or {}), None, send)
    return seen[0], sent


@pytest.mark.parametrize("given", [b"7", b"4bf92f35-77b3", b"a" * 128, b"Root=1-67891233-abcdef012345678912345678"])
def test_the_id_of_the_caller_is_kept(given):
    seen, sent = asyncio.run(run_request(given))
    assert seen == given.decode()
    assert [value for name, value in sent[0]["headers"] if name.lower() == b"x-request-id"] == [given]


@pytest.mark.parametrize("given", [None, b"", b"a" * 129, b"a b", b"a\nb", b"\xc3\xbc", b"a]: forged", b'"', b"a\0"])
def test_an_id_that_could_forge_a_line_is_replaced(given):
    seen, _ = asyncio.run(run_request(given))
    assert re.fullmatch("[0-9a-f]{32}", seen)


def test_a_line_names_the_request(caplog):
    caplog.set_level("INFO")
    asyncio.run(run_request(b"7", path="/a\n" + "b" * 1000))
    fields = caplog.records[-1].fields
    assert (fields["method"], fields["status"], fields["client"]) == ("GET", 200, "::1")
    assert len(fields["path"]) == MAX_PATH_CHARACTERS + 1


def test_a_path_cannot_tell_another_status(caplog):
    caplog.set_level("INFO")
    asyncio.run(run_request(path="/x 500 in 1.0 ms from 192.0.2.1"))
    assert caplog.messages[-1].startswith("GET /x%20500%20in%201.0%20ms%20from%20192.0.2.1 200 in ")


@pytest.mark.parametrize(("path", "status", "levels"), [("/healthz", 200, []), ("/healthz", 503, ["INFO"])])
def test_a_health_check_is_logged_if_it_fails(caplog, path, status, levels):
    caplog.set_level("INFO")
    asyncio.run(run_request(path=path, messages=[{"type": "http.response.start", "status": status, "headers": []}]))
    assert [record.levelname for record in caplog.records] == levels


@pytest.mark.parametrize(("message", "status"), [("websocket.accept", 101), ("websocket.close", 403)])
def test_a_web_socket_is_logged(caplog, message, status):
    caplog.set_level("INFO")
    scope = {"type": "websocket"}
    scope_without_method = run_request(messages=[{"type": message}], scope=scope)
    _, sent = asyncio.run(scope_without_method)
    assert caplog.records[-1].fields["status"] == status
    assert ("headers" in sent[0]) == (message == "websocket.accept")


def test_the_log_can_be_without_requests(caplog, settings):
    settings.DORMOUSE_ACCESS_LOG = False
    caplog.set_level("INFO")
    asyncio.run(run_request())
    assert not caplog.records
