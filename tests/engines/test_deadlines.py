"""The class of answers that the deadlines give to urllib3 changes nothing for whatever else uses urllib3."""

import http.client
import socket
import subprocess
import sys
import threading
from contextlib import nullcontext

import pytest
import urllib3

from lifecycle.engines.deadlines import answers_within
from tests.servers import PROJECT

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ndo\r\n2\r\nne\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\ndone",
]
#: The modules that import urllib3 when the product is loaded.
IMPORTERS = """
import builtins, sys
found, original = set(), builtins.__import__
def noting(name, globals=None, *more, **options):
    if name.partition(".")[0] == "urllib3" and globals:
        found.add(globals["__name__"].partition(".")[0])
    return original(name, globals, *more, **options)
builtins.__import__ = noting
import config.asgi, lifecycle.engines.docker.engine
print(*sorted(found - {"urllib3"}))
"""


@pytest.fixture
def serve_once():
    """Return a function that starts a server which answers each of two connections with these bytes."""
    listeners = []

    def start(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve():
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize("answer", ANSWERS, ids=["length", "chunks", "until the end"])
def test_an_answer_is_read_the_same_with_and_without_a_deadline(serve_once, answer):
    url = serve_once(answer)
    for deadline in (nullcontext(), answers_within(60)):
        with deadline, urllib3.PoolManager(retries=False) as pool:  # a connection cannot be used twice
            assert pool.request("GET", url).data == b"done"


def test_http_client_itself_is_not_changed():
    assert http.client.HTTPConnection.response_class is http.client.HTTPResponse


@pytest.mark.slow
def test_only_the_docker_sdk_uses_urllib3(db):
    command = [sys.executable, "-c", IMPORTERS]
    asked = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True)
    assert set(asked.stdout.split()) == {"docker", "lifecycle", "requests"}
