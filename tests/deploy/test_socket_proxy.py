"""What deploy/socket-proxy.cfg does with requests that are made to get around it. The engine here only records."""

import http.client
import shutil
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

from tests.conftest import need
from tests.servers import PROJECT, free_port, wait_for

MARK = b'{"Name": "dormouse-mark", "Labels": {"dormouse.installation": "x"}}'
CHANGE_OF_PROTOCOL = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}


class RecordingEngine(ThreadingMixIn, UnixStreamServer):
    """Answers every request with 200, and keeps its headers."""

    daemon_threads = True

    def __init__(self, path):
        super().__init__(path, Handler)
        self.headers = []


class Handler(BaseHTTPRequestHandler):
    server: RecordingEngine

    def answer(self):
        self.server.headers.append(self.headers)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = answer

    def log_message(self, *arguments):
        """Write nothing."""


@pytest.fixture
def engine(tmp_path):
    with RecordingEngine(str(tmp_path / "s")) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def port(engine, tmp_path):
    need("proxies", shutil.which("haproxy"), "apt-get install haproxy")
    port, text = free_port(), (PROJECT / "deploy" / "socket-proxy.cfg").read_text()
    text = text.replace("bind :2375", f"bind 127.0.0.1:{port}").replace("/var/run/docker.sock", str(tmp_path / "s"))
    (tmp_path / "haproxy.cfg").write_text(text)
    process = subprocess.Popen(["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")], stderr=subprocess.DEVNULL)
    wait_for(lambda: is_open(port), what="HAProxy")
    yield port
    process.terminate()
    process.wait()


def is_open(port):
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def ask(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, headers or {})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.server
@pytest.mark.parametrize("path", ["/v1.41/containers/x/start", "/v1.41/volumes/create"])
def test_the_engine_is_not_asked_to_change_the_protocol(engine, port, path):
    body = MARK if path.endswith("create") else None
    assert ask(port, "POST", path, body, CHANGE_OF_PROTOCOL) == 200
    (headers,) = engine.headers
    assert "Upgrade" not in headers
    assert "upgrade" not in headers.get("Connection", "").lower()


@pytest.mark.server
@pytest.mark.parametrize(
    "after",
    [b"{}", b'\0{"DriverOpts": {"device": "/"}}', b"\0", b" " * 20_000, b"\0" + b" " * 20_000],
    ids=["object", "NUL and object", "NUL", "blanks", "NUL and blanks"],
)
def test_nothing_may_follow_the_labels_of_a_mark(engine, port, after):
    assert ask(port, "POST", "/v1.41/volumes/create", MARK) == 200
    assert ask(port, "POST", "/v1.41/volumes/create", MARK + after) == 403
    assert len(engine.headers) == 1


@pytest.mark.server
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1.41/containers/create"),
        ("POST", "/v1.41/containers%2fcreate"),
        ("POST", "/v1.41/containers/x/../create"),
        ("POST", "/v1.41/containers/create%0a/x/start"),
        ("POST", "http://engine/v1.41/containers/create"),
        ("POST", "/v1.41/containers/create?/v1.41/containers/x/start"),
        ("POST", "/v1.41/containers/x/exec"),
        ("POST", "/v1.41/containers/x/attach?stream=1"),
        ("POST", "/containers/x/start"),
        ("POST", "/v1.024/containers/x/start"),
        ("GET", "/v1.41/containers/x/archive?path=/"),
        ("DELETE", "/v1.41/volumes/data"),
    ],
)
def test_a_request_that_only_looks_allowed_is_refused(engine, port, method, path):
    assert ask(port, method, path) == 403
    assert not engine.headers
