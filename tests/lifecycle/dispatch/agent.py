"""An agent that tests hold in their hands: a real HTTP server that answers with the bytes that a test says."""

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Request:
    """What reached the agent."""

    line: str
    #: In the order in which they came, with their names as they were written.
    fields: list[tuple[str, bytes]]
    body: bytes = b""
    connection: socket.socket | None = field(default=None, repr=False)

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value.decode("latin-1") for name, value in self.fields}


def answer(status: int = 200, body: bytes = b"done", **headers: str) -> bytes:
    """Return a whole answer: `answer(302, Location="/x")`."""
    fields = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
    head = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Agent:
    """Answers every request with what `answer` returns. None: `answer` has used the connection itself, and it closes.

    A request with `Stop-Reading: yes` in its headers is answered before its body is read.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], bytes | None] = lambda request: answer()
        #: How many connections there have been.
        self.connections = 0
        self.accepts = True
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Refuse new connections, and end those that there are."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, suppress(OSError):
            while request := read_request(stream, connection):
                self.requests.append(request)
                answered = self.answer(request)
                if answered is None:
                    return
                if request.method == "HEAD":
                    answered = answered.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                connection.sendall(answered)
                if b"connection: close" in answered.lower():
                    return
        self._open.discard(connection)


def read_request(stream, connection):
    """Return the next request with its body, or None if the caller has closed."""
    line = stream.readline()
    if not line:
        return None
    fields = []
    while (found := stream.readline()) not in (b"\r\n", b""):
        name, _, value = found.rstrip(b"\r\n").partition(b": ")
        fields.append((name.decode("latin-1"), value))
    request = Request(line.decode("latin-1").rstrip(), fields, connection=connection)
    if request.headers.get("stop-reading") != "yes":
        request.body = read_body(stream, request.headers)
    return request


def read_body(stream, headers):
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(re.match(rb"[0-9a-fA-F]+", stream.readline())[0], 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
        return body
    return stream.read(int(headers.get("content-length", 0)))


def until_it_is_over(request):
    """Answer nothing until the caller hangs up."""
    request.connection.recv(1)
