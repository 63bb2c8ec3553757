"""Clients that others wrote send work through the gateway, to agents that speak their protocols."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import npm
from tests.clients.following import PROGRAMS
from tests.config.agents import agents_file
from tests.conftest import need
from tests.servers import DEADLINE_SECONDS

pytestmark = pytest.mark.both_servers

AGENTS = Path(__file__).parent / "agents"
MB = 1024 * 1024
SENT = b"x" * (20 * MB)
#: What the agent says of SENT.
WHOLE = {"length": len(SENT), "sha256": hashlib.sha256(SENT).hexdigest()}


@pytest.fixture
def server(serve, tmp_path):
    programs = {path.stem: str(path) for path in AGENTS.glob("*.py")}
    with agents_file(tmp_path, **programs) as environment:
        server = serve(**environment)
        yield server
        log = server.log.read_text()
        print(log)  # pytest shows it with a failure
        assert "Traceback" not in log


def url_of(server, agent, path):
    return f"{server.url}/api/instances/{agent}/proxy/{path}"


@pytest.fixture
def run(tmp_path):
    """Run a client in the folder of the agents, and return what it wrote."""

    def run(*command, **more):
        environment = os.environ | {"PYTHONDEVMODE": ""}
        ran = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, timeout=2 * DEADLINE_SECONDS, **more
        )
        assert ran.returncode == 0, ran.stderr.decode()
        return ran.stdout.decode()

    return run


@pytest.mark.uvicorn_too
def test_a_client_of_the_model_context_protocol_lists_and_calls_tools(server, run):
    wrote = run(sys.executable, str(PROGRAMS / "with_mcp.py"), url_of(server, "tools", "mcp"), server.TOKEN)
    assert wrote.splitlines() == ["add count", "5", "progress 1.0 2.0", "progress 2.0 2.0", "counted"]


@pytest.mark.uvicorn_too
def test_openais_client_streams_tokens(server, run):
    """Dormouse's token is the client's key, or it is a header of its own and the key is passed on."""
    command = [sys.executable, str(PROGRAMS / "with_openai.py"), url_of(server, "completions", "v1")]
    assert run(*command, server.TOKEN).splitlines() == ["dormouse-1", "hello", "no key"]
    assert run(*command, "sk-1", server.TOKEN).splitlines() == ["dormouse-1", "hello", "Bearer sk-1"]


def curl(run, server, *arguments, **more):
    return run("curl", "-sS", "-H", f"Authorization: Bearer {server.TOKEN}", *arguments, **more)


def test_curl_reads_a_compressed_answer(server, run):
    url = url_of(server, "echo", "gzip")
    assert curl(run, server, "--compressed", url) == "text " * 10_000
    size = curl(run, server, "-o", os.devnull, "-w", "%{size_download}", "-H", "Accept-Encoding: gzip", url)
    assert int(size) < 1000


def test_curl_uploads_what_it_reads(server, run):
    for length in (0, 5, len(SENT)):
        said = json.loads(curl(run, server, "-T", "-", url_of(server, "echo", "up?x=%20y"), input=SENT[:length]))
        sha256 = hashlib.sha256(SENT[:length]).hexdigest()
        assert said == {"method": "PUT", "path": "/up?x=%20y", "length": length, "sha256": sha256}


def test_curl_asks_for_the_head_alone(server, run):
    head = curl(run, server, "-I", url_of(server, "echo", "gzip"))
    status, *lines = head.strip().splitlines()
    names = [line.split(":")[0].lower() for line in lines]
    assert status == "HTTP/1.1 200 OK"
    assert {"content-encoding", "content-length", "vary", "dormouse-run"} <= set(names)
    assert "transfer-encoding" not in names
    assert len(names) == len(set(names))


def test_ab_gets_every_answer(server, run):
    """It speaks HTTP/1.0, with a connection for each request or with kept ones."""
    need("packages", shutil.which("ab"), "apt-get install apache2-utils")
    authorization = f"Authorization: Bearer {server.TOKEN}"
    for keep in ([], ["-k"]):
        wrote = run("ab", "-q", *keep, "-n", "200", "-c", "10", "-H", authorization, url_of(server, "echo", "x"))
        assert re.search(r"Complete requests: +200\n", wrote), wrote
        assert re.search(r"Failed requests: +0\n", wrote), wrote
        assert "Non-2xx" not in wrote


@pytest.mark.node
def test_nodes_fetch_sends_a_streamed_body(server, run):
    wrote = run(str(npm.NODE), str(PROGRAMS / "fetch_upload.mjs"), url_of(server, "echo", "x"), server.TOKEN, "20")
    status, _, said = wrote.partition(" ")
    assert status == "200"
    assert json.loads(said) == {"method": "POST", "path": "/x"} | WHOLE


def test_gos_client_sends_bodies_with_and_without_a_length(server, run, tmp_path):
    go = shutil.which("go")
    need("packages", go, "apt-get install golang-go")
    wrote = run(go, "run", str(PROGRAMS / "upload.go"), url_of(server, "echo", "x"), server.TOKEN, "20")
    answers = [line.partition(" ") for line in wrote.splitlines()]
    assert [status for status, _, _ in answers] == ["200"] * 3
    said = [json.loads(text) for _, _, text in answers]
    assert said[0] == {"method": "POST", "path": "/x"} | WHOLE
    assert [(one["method"], one["length"]) for one in said[1:]] == [("PUT", 5), ("GET", 0)]
