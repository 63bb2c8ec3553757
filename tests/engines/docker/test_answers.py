"""Answers of the Docker Engine that have another shape than its API says."""

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3

from lifecycle.engines.deadlines import answers_within
from lifecycle.engines.docker.engine import DockerEngine
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
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
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


@pytest.fixture
def trickle():
    """Return a function that starts an engine which sends these bytes, and then one byte every 0.1 s."""
    ended, sockets = threading.Event(), []

    def answer(connection, begin, byte):
        with contextlib.suppress(OSError):
            asked = connection.recv(65536)
            body = json.dumps(VERSION).encode()
            if b"/version" in asked:
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                )
                return
            connection.sendall(begin)
            while not ended.wait(0.1):
                connection.sendall(byte)

    def serve(listener, begin, byte):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                sockets.append(connection)
                threading.Thread(target=lambda c=connection: (answer(c, begin, byte), c.close()), daemon=True).start()

    def start(begin, byte):
        sockets.append(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=serve, args=(sockets[-1], begin, byte), daemon=True).start()
        return DockerEngine({"DOCKER_HOST": f"tcp://127.0.0.1:{sockets[-1].getsockname()[1]}"})

    yield start
    ended.set()
    for one in sockets:
        one.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "byte"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n[", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n[\r\n"),
    ],
    ids=["headers", "body", "chunks"],
)
def test_an_answer_that_trickles_ends_at_the_deadline_of_the_whole(trickle, begin, byte):
    engine = trickle(begin, byte)
    with pytest.raises(EngineUnreachable, match="does not answer in time"):
        engine.inspect(NAME)
    for client in engine._clients.values():
        client.close()


@pytest.mark.slow
def test_a_stream_is_read_on_without_the_deadline_of_its_headers():
    """The engine's events may be silent for longer than any answer may take."""
    may_send = threading.Event()

    class Engine(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            may_send.wait(60)
            self.wfile.write(b"event")

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with answers_within(0.5), urllib3.PoolManager() as pool:
            address = f"http://127.0.0.1:{server.server_port}/events"
            stream = pool.request("GET", address, preload_content=False, timeout=None, retries=False)
        threading.Timer(1.5, may_send.set).start()
        assert stream.read() == b"event"
        server.shutdown()
