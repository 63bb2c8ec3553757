"""Answers of the Docker Engine that have another shape than its API says."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lifecycle.engines.docker import DockerEngine
from lifecycle.exceptions import EngineUnreachable

NAME = "reviewer-default"
VERSION = {"ApiVersion": "1.41", "Version": "20.10.24"}
LISTED = {"Names": [f"/{NAME}"], "Id": "1", "State": "exited", "Labels": {"dormouse.enable": "true"}}


@pytest.fixture
def answer():
    """Return a function that starts an engine which answers every question with the same bytes."""
    servers = []

    def start(body):
        class Engine(BaseHTTPRequestHandler):
            def do_GET(self):
                sent = json.dumps(VERSION).encode() if self.path.endswith("/version") else body
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_POST = do_GET

            def log_message(self, format, *args):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Engine))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        engines.append(DockerEngine({"DOCKER_HOST": f"tcp://127.0.0.1:{servers[-1].server_port}"}))
        return engines[-1]

    engines = []
    yield start
    for engine in engines:
        for client in engine._clients.values():
            client.close()
    for server in servers:
        server.shutdown()
        server.server_close()


ODD = [b"null", b"{}", b"[{}]", b"[null]", b'"text"', b"<html>proxy</html>", b"[", b"17", b'[{"Names": 3}]']


@pytest.mark.parametrize("body", ODD)
def test_an_odd_list_is_an_engine_that_cannot_be_reached(answer, body):
    with pytest.raises(EngineUnreachable, match="the Docker Engine"):
        answer(body).instances()


@pytest.mark.parametrize("body", [*ODD, b"[]", b'{"Config": null}'])
def test_an_odd_inspection_is_an_engine_that_cannot_be_reached(answer, body):
    with pytest.raises(EngineUnreachable, match="the Docker Engine"):
        answer(body).inspect(NAME)


@pytest.mark.parametrize("names", [[], None])
def test_a_container_without_a_name_is_ignored_and_the_others_are_listed(answer, names, caplog):
    engine = answer(json.dumps([LISTED | {"Names": names, "Id": f"nameless {names}"}, LISTED]).encode())
    assert [one.name for one in engine.instances()] == [NAME]
    assert [one.name for one in engine.instances()] == [NAME]
    assert caplog.text.count("has no name") == 1
