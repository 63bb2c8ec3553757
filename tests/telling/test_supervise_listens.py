"""`manage.py supervise --listen`, as a process on the test's database."""

import os
import signal
import socket
import subprocess
import sys
from argparse import ArgumentTypeError
from contextlib import suppress

import httpx
import pytest

from access.models import Token
from lifecycle.supervision.supervisor import latest_sweep
from telling.health import OLD_SWEEP_SECONDS, SUPERVISOR_CHECKS, answer
from telling.listener import MAX_CONNECTIONS, Listener
from telling.management.commands.supervise import parse_address
from tests.servers import PROJECT, database_url, free_port, wait_for


@pytest.fixture
def supervise(transactional_db, tmp_path):
    """`supervise("127.0.0.1:9105")` begins the command; the fixture ends it."""
    (tmp_path / "agents.toml").write_text("")
    environment = os.environ | {
        "DATABASE_URL": database_url(),
        "DORMOUSE_AGENTS_FILE": str(tmp_path / "agents.toml"),
        "DORMOUSE_RUN_DIR": str(tmp_path / "run"),
    }
    log, started = tmp_path / "log", []

    def begin(address):
        command = [sys.executable, "manage.py", "supervise", "--listen", address]
        with log.open("ab") as output:
            started.append(subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=output, stderr=output))
        return started[-1], log

    yield begin
    for process in started:
        process.kill()
        process.wait()


def is_up(url):
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.server
def test_a_supervisor_tells_its_health_and_metrics(supervise):
    url = f"http://127.0.0.1:{free_port()}"
    process, _ = supervise(url.removeprefix("http://"))
    wait_for(lambda: is_up(url), what="the supervisor to sweep")
    assert httpx.get(f"{url}/healthz").text == "ok\n"
    refused = httpx.get(f"{url}/metrics")
    assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    assert httpx.get(f"{url}/metrics", headers={"Dormouse-Token": "wrong"}).status_code == 401
    for headers in (
        {"Authorization": "Bearer the-tests-token"},
        {"Dormouse-Token": Token.objects.issue("p", "viewer")[1]},
    ):
        scraped = httpx.get(f"{url}/metrics", headers=headers)
        assert scraped.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "\ndormouse_supervisor_sweep_age_seconds " in scraped.text
        assert '\ndormouse_engine_reachable{engine="process"} 1.0' in scraped.text
    assert httpx.post(f"{url}/metrics").status_code == 405
    assert httpx.get(f"{url}/agents/").status_code == 404
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


@pytest.mark.server
def test_an_address_that_is_taken_is_said(supervise):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process, log = supervise(f"127.0.0.1:{taken.getsockname()[1]}")
        assert process.wait() == 1
    output = log.read_text()
    assert "cannot be listened on" in output
    assert "Traceback" not in output


def test_strangers_cannot_use_up_its_files():
    port = free_port()
    with Listener("127.0.0.1", port):
        strangers = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(MAX_CONNECTIONS)]
        assert httpx.get(f"http://127.0.0.1:{port}/nothing").status_code == 404
        with suppress(ConnectionResetError):
            assert strangers[0].recv(1) == b""
        for stranger in strangers:
            stranger.close()


@pytest.mark.parametrize("line", [b"Authorization: Bearer hush\0", b"Content-Length: 1\r\nTransfer-Encoding: chunked"])
def test_what_is_no_request_is_not_logged(caplog, line):
    port = free_port()
    with (
        Listener("127.0.0.1", port),
        socket.create_connection(("127.0.0.1", port), timeout=60) as connection,
    ):
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
        assert b" 400 " in connection.recv(1000)
    assert not [record for record in caplog.records if record.name != "asyncio"]  # whose debug mode tells of the loop


@pytest.mark.parametrize("text", ["", "9105", "host", "host:", "host:0", "host:65536", "host:x", "host:²"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ArgumentTypeError):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:65535", ("::1", 65535)), (":9105", ("0.0.0.0", 9105))],
)
def test_addresses(text, address):
    assert parse_address(text) == address


@pytest.mark.django_db
@pytest.mark.parametrize(("age_seconds", "status"), [(None, 503), (OLD_SWEEP_SECONDS + 1, 503), (1, 200)])
def test_a_supervisor_that_does_not_sweep_is_not_ready(monkeypatch, age_seconds, status):
    monkeypatch.setattr(latest_sweep, "age_seconds", lambda: age_seconds)
    assert answer(SUPERVISOR_CHECKS["/readyz"]).status_code == status
    assert answer(SUPERVISOR_CHECKS["/healthz"]).status_code == 200
