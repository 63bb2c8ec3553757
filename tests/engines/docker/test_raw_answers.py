"""Bytes that a proxy or a broken network may answer in place of a Docker Engine: each is an error, in words."""

import contextlib
import json
import socket
import struct
import threading

import pytest

from lifecycle.engines.docker.engine import DockerEngine
from lifecycle.exceptions import EngineError

NAME = "reviewer-default"
VERSION = json.dumps({"ApiVersion": "1.41", "Version": "20.10.24"}).encode()
HEAD = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
HTML = b"<html><body><h1>502 Bad Gateway</h1>\nnginx</body></html>"
RESET = b""


def html(status):
    return HEAD % (status, b"text/html", len(HTML)) + HTML


ANSWERS = {
    "reset": RESET,
    "half of a body": HEAD % (b"200 OK", b"application/json", 1000) + b"[{",
    "half of a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a chunk without a size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n[]",
    "half of a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n[{",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "NUL": b"\0" * 100,
    "a long line": b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n",
    "a thousand headers": b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 1000 + b"\r\n",
    "compression that is none": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "no text": HEAD % (b"200 OK", b"application/json", 2) + b"\xff\xfe",
    "deep JSON": HEAD % (b"200 OK", b"application/json", 200_000) + b"[" * 200_000,
    "a redirect to itself": b"HTTP/1.1 307 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    "a redirect to nothing": b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "400 in HTML": html(b"400 Bad Request"),
    "403 in HTML": html(b"403 Forbidden"),
    "404 in HTML": html(b"404 Not Found"),
    "407 in HTML": html(b"407 Proxy Authentication Required"),
    "500 in HTML": html(b"500 Internal Server Error"),
    "502 in HTML": html(b"502 Bad Gateway"),
    "503 in HTML": html(b"503 Service Unavailable"),
}
CALLS = {
    "list": lambda engine: engine.instances(),
    "inspect": lambda engine: engine.inspect(NAME),
    "start": lambda engine: engine.start(NAME),
    "stop": lambda engine: engine.stop(NAME, 0),
    "output": lambda engine: engine.output(NAME, 10),
    "events": lambda engine: list(engine.watch_changes()),
}


@pytest.fixture
def engine_that_answers():
    """Return a function that starts an engine which answers each question but that of its version with these bytes."""
    listeners, engines = [], []

    def serve(listener, answer):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    asked = connection.recv(65536)
                    if b"/version" in asked:
                        connection.sendall(HEAD % (b"200 OK", b"application/json", len(VERSION)) + VERSION)
                    elif answer == RESET:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    else:
                        connection.sendall(answer)

    def start(answer):
        listeners.append(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=serve, args=(listeners[-1], answer), daemon=True).start()
        engines.append(DockerEngine({"DOCKER_HOST": f"tcp://127.0.0.1:{listeners[-1].getsockname()[1]}"}))
        return engines[-1]

    yield start
    for engine in engines:
        for client in engine._clients.values():
            client.close()
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_it_is_an_error_of_the_engine_in_one_line(engine_that_answers, answer, call):
    engine = engine_that_answers(ANSWERS[answer])
    try:
        CALLS[call](engine)
        said = ""
    except EngineError as error:
        said = str(error)
    # An engine's stream of events may end at any time, and is then opened again.
    assert said or call == "events"
    assert len(said) < 1000
    assert "\n" not in said
    assert "Traceback" not in said
