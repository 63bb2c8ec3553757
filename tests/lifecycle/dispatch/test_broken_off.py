"""Answers that break off and callers that hang up, at a real web process with a real agent."""

import time

import httpx
import pytest

from lifecycle.models import Lease
from tests.servers import DEADLINE_SECONDS, PROJECT, wait_for

pytestmark = pytest.mark.both_servers

NAME = "reviewer-default"
#: Does what its work says.
AGENT = """
import pathlib, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        work = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.send_response(200)
        if work == "a hundred megabytes":
            self.send_header("Content-Length", "100000000")
            self.end_headers()
            for part in range(1, 101):
                self.wfile.write(b"x" * 1_000_000)
                pathlib.Path("written").write_text(str(part))
            return
        if work == "break off a length":
            self.send_header("Content-Length", "1000")
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"4\\r\\nhalf\\r\\n")
        self.close_connection = True
        if work != "go on":
            return
        try:
            while True:
                self.wfile.write(b"1\\r\\n.\\r\\n")
                time.sleep(0.02)
        except OSError:
            pathlib.Path("hung-up").touch()

ThreadingHTTPServer.request_queue_size = 100  # of 20 connections at once, 5 would wait and the rest be tried 1 s later
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
"""


@pytest.fixture
def server(serve_agent):
    return serve_agent(AGENT)


def dispatch(server, work):
    url = f"{server.url}/api/instances/{NAME}/dispatch"
    return httpx.stream("POST", url, content=work, headers=server.bearer, timeout=DEADLINE_SECONDS)


@pytest.mark.uvicorn_too
@pytest.mark.parametrize("work", ["break off a length", "break off chunks"])
def test_an_answer_that_the_agent_breaks_off_is_broken_for_the_caller(server, work):
    with dispatch(server, work) as answer, pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        answer.read()


def test_work_that_came_in_chunks_reaches_the_agent_with_its_length(server):
    """Many agents can read only a body with a length."""
    with dispatch(server, iter([b"break off ", b"chunks"])) as answer:
        assert answer.status_code == 200
        assert next(answer.iter_text()) == "half"


def test_a_type_with_any_byte_is_passed_on(server):
    url, headers = f"{server.url}/api/instances/{NAME}/dispatch", {"Content-Type": b"text/plain; name=\xe9"}
    with httpx.stream("POST", url, content="break off chunks", headers=server.bearer | headers) as answer:
        assert answer.status_code == 200


def test_a_broken_answer_is_one_line_of_the_log_and_the_server_goes_on(server):
    for _ in range(2):
        with dispatch(server, "break off chunks") as answer, pytest.raises(httpx.RemoteProtocolError):
            answer.read()
    log = server.log.read_text()
    assert log.count(f"{NAME} broke off: ") == 2
    assert "Traceback" not in log


def test_a_broken_answer_gives_its_lease_back(server):
    with dispatch(server, "break off chunks") as answer, pytest.raises(httpx.RemoteProtocolError):
        answer.read()
    wait_for(lambda: not Lease.objects.exists())


def test_a_server_that_ends_in_the_middle_of_an_answer_ends_quietly(server):
    with dispatch(server, "go on") as answer:
        parts = answer.iter_text()
        next(parts)
        server.stop()
    assert rf"File \"{PROJECT}/lifecycle" not in server.log.read_text()


def test_a_caller_that_hangs_up_ends_the_connection_to_the_agent_and_the_lease(server, tmp_path):
    with dispatch(server, "go on") as answer:
        parts = answer.iter_text()  # held, for httpx hangs up when it is collected
        assert next(parts).startswith("half")
        assert Lease.objects.count() == 1
    wait_for((tmp_path / "hung-up").exists)
    wait_for(lambda: not Lease.objects.exists())
    assert "Traceback" not in server.log.read_text()


def test_an_answer_goes_no_faster_than_its_caller_reads(server, tmp_path):
    written = tmp_path / "written"
    with httpx.stream(
        "POST",
        f"{server.url}/api/instances/{NAME}/dispatch",
        headers=server.bearer,
        content="a hundred megabytes",
        timeout=60,
    ) as answer:
        parts = answer.iter_raw(1000)
        read = len(next(parts))
        before = ""
        while before != (before := wait_for(lambda: written.exists() and written.read_text())):
            time.sleep(2)
        assert int(before) < 50  # megabytes; the rest stays with the agent
        read += sum(map(len, parts))
    assert read == 100_000_000
