"""Agents that answer what no agent should: the caller gets a clean answer, and Dormouse goes on with little memory."""

import os
import re
import socket
import sys
from pathlib import Path

import httpx
import pytest

from benchmarks.soak.agent import ANSWERS, ENDLESS
from benchmarks.soak.site import AGENT
from lifecycle.engines.process.engine import ProcessEngine
from lifecycle.models import Lease
from tests.servers import DEADLINE_SECONDS, free_port, wait_for

pytestmark = pytest.mark.both_servers

MEGABYTES = 1000 if os.environ.get("DORMOUSE_LONG") else 200
#: What Dormouse may grow by, however much an agent sends.
MAX_GROWTH_BYTES = 60_000_000
PATH = "/api/instances/hostile/dispatch"
#: The caller gets one of these, or an answer that is visibly broken off.
STATUSES = {
    "break off": {200, 502},
    "bad chunks": {200, 502},
    "no answer": {502},
    "not HTTP": {502},
    "long headers": {502},
    "two lengths": {502},
    "odd status": {502},
    "another protocol": {502},
    "redirect": {302},
    "forged line": {500, 502},
    "length and chunks": {200, 502},
    "more than its length": {200, 502},
    "endless headers": {502},
    "endless line": {502},
    "endless interim answers": {502, 504},
}


@pytest.fixture
def server(serve, tmp_path):
    port, agents = free_port(), tmp_path / "agents.toml"
    limits = 'stop-timeout = "1s"\ndispatch-timeout = "3s"\n'
    agents.write_text(f'[hostile]\ncommand = "{sys.executable} {AGENT} {port}"\nport = {port}\n{limits}')
    yield serve(DORMOUSE_AGENTS_FILE=str(agents), DORMOUSE_RUN_DIR=str(tmp_path / "run"))
    ProcessEngine(agents, tmp_path / "run").stop("hostile", 1)


def dispatch(server, work):
    """Return the status of the answer, of which the whole body is read."""
    headers = server.bearer
    with httpx.stream("POST", server.url + PATH, content=work, headers=headers, timeout=DEADLINE_SECONDS) as answer:
        try:
            answer.read()
        except httpx.RemoteProtocolError:
            assert work in ("break off", "bad chunks")
        assert "set-cookie" not in answer.headers
        return answer.status_code


def memory_bytes(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


@pytest.mark.uvicorn_too
def test_each_odd_answer_is_clean_for_the_caller_and_harms_nothing(server):
    assert dispatch(server, "") == 200
    before = memory_bytes(server)
    for work, statuses in STATUSES.items():
        assert dispatch(server, work) in statuses, work
        assert dispatch(server, "") == 200, f"after {work}"
    assert memory_bytes(server) - before < MAX_GROWTH_BYTES
    wait_for(lambda: not Lease.objects.exists(), what="the leases to end")
    assert "Traceback" not in server.log.read_text()
    assert not re.search(r"\x1b|\\u001b", server.log.read_text())  # the second is how JSON writes it


def test_every_answer_of_the_agent_has_a_decision():
    assert {*ANSWERS, *ENDLESS} - {"", "large", "cookies"} == {*STATUSES}


@pytest.mark.parametrize("work", ["length and chunks", "more than its length"])
def test_what_comes_behind_an_answer_is_no_other_answer(server, work):
    """The caller keeps its connection: the next answer must be that of its next request."""
    request = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.TOKEN}\r\n"
    request += f"Content-Length: {len(work)}\r\n\r\n{work}"
    dispatch(server, "")
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as connection:
        connection.sendall(request.encode())
        answers = connection.recv(65536)
        while b"hello" not in answers and not answers.startswith(b"HTTP/1.1 502"):
            answers += connection.recv(65536)
        connection.sendall(b"PATCH /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        while part := connection.recv(65536):
            answers += part
    # What an agent sends in a chunk is data. Outside of its own framing it is nothing.
    outside = re.sub(rb"\r\n2d\r\nhello.*?0\r\n\r\n", b"", answers, flags=re.DOTALL)
    found = re.findall(rb"HTTP/1\.1 (\d+)", outside)
    assert b"203" not in found, answers
    assert found[0] in (b"200", b"502")
    assert found[1:] in ([b"405"], [])  # it may also close the connection


def test_a_long_answer_costs_no_memory(server):
    dispatch(server, "")
    before, most, received = memory_bytes(server), 0, 0
    work, headers = f"{MEGABYTES} MB", server.bearer
    with httpx.stream("POST", server.url + PATH, content=work, headers=headers, timeout=DEADLINE_SECONDS) as answer:
        for part in answer.iter_raw():
            received += len(part)
            most = max(most, memory_bytes(server))
    assert received == MEGABYTES * 1_000_000
    assert most - before < MAX_GROWTH_BYTES
