"""A proxy before the suite's engine. It passes everything on, except what a test wants answered otherwise.

proxy.answer("POST", r"/containers/.*/stop", Canned(500, {"message": "cannot stop container"}))
"""

import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.docker.support.engine import HOST

CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Canned:
    """An answer that the engine did not give. `body` is JSON, or a text as it is."""

    status: int
    body: Any = None
    content_type: str = "application/json"
    #: How many requests get it. None: all.
    times: int | None = None
    #: Whether the engine does what was asked, and only its answer is replaced.
    passes_on: bool = False
    #: Until when the request is held first. None: it is not held.
    until: threading.Event | None = None


@dataclass
class Rule:
    method: str
    path: re.Pattern[str]
    canned: Canned
    count: int = field(default=0)

    def takes(self, method: str, path: str) -> bool:
        """Return whether the rule answers this request, and count it."""
        is_over = self.canned.times is not None and self.count >= self.canned.times
        if is_over or method != self.method or not self.path.search(path.split("?")[0]):
            return False
        self.count += 1
        return True


class FaultyProxy:
    """Listens on `address`, by default a free port of 127.0.0.1. `host` is its DOCKER_HOST, `engine` the real one's."""

    def __init__(self, address: str = "127.0.0.1", engine: str = HOST) -> None:
        self.socket = engine.removeprefix("unix://")
        self.rules: list[Rule] = []
        #: Every request: "POST /v1.41/containers/x/start".
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer((address, 0), _handler(self))
        self._server.daemon_threads = True
        self.host = f"tcp://{address}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, method: str, path: str, canned: Canned) -> Rule:
        """Answer requests to a path that contains the pattern `path`. The latest rule comes first."""
        rule = Rule(method, re.compile(path), canned)
        self.rules.insert(0, rule)
        return rule

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            proxy.requests.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            rule = next((rule for rule in proxy.rules if rule.takes(self.command, self.path)), None)
            if rule is None:
                self._pass_on(body, self.wfile.write)
                return
            if rule.canned.until:
                rule.canned.until.wait()
            if rule.canned.passes_on:
                self._pass_on(body, lambda chunk: None)
            with suppress(OSError):  # the client may have given up
                self._send(rule.canned)

        do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do

        def _send(self, canned: Canned) -> None:
            text = canned.body if isinstance(canned.body, str) else json.dumps(canned.body)
            sent = b"" if canned.body is None else text.encode()
            self.send_response(canned.status)
            self.send_header("Content-Type", canned.content_type)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def _pass_on(self, body: bytes, write: Callable[[bytes], Any]) -> None:
            """Send the request to the engine, and its answer back byte for byte, until the engine closes."""
            self.close_connection = True
            with socket.socket(socket.AF_UNIX) as engine:
                engine.connect(proxy.socket)
                engine.sendall(f"{self.command} {self.path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n".encode())
                kept = ("Content-Type", "Content-Length", "User-Agent")
                for name in kept:
                    if name in self.headers:
                        engine.sendall(f"{name}: {self.headers[name]}\r\n".encode())
                engine.sendall(b"\r\n" + body)
                try:
                    while chunk := engine.recv(CHUNK_BYTES):
                        write(chunk)
                        self.wfile.flush()
                except OSError:
                    pass  # the client has gone

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
