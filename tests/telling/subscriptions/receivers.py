"""Real HTTP receivers that keep what they are sent."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook

#: What a receiver does with a request, which is the n-th that it got, counted from 1.
Behaviour = Callable[[BaseHTTPRequestHandler, int], None]


def answer(status: int, **headers: str) -> Behaviour:
    def behave(request: BaseHTTPRequestHandler, number: int) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return behave


healthy = answer(204)


def fails_every_second_time(request: BaseHTTPRequestHandler, number: int) -> None:
    answer(500 if number % 2 else 200)(request, number)


class Receiver(ThreadingHTTPServer):
    """Listens on 127.0.0.1, and behaves as it is told to."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self, behave: Behaviour = healthy, port: int = 0, secret: str = "") -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.behave = behave
        #: Headers and body of each request, and what was answered with 2xx of them.
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.taken: list[tuple[dict[str, str], bytes]] = []
        #: Whose signatures are verified when they come, because the library refuses those that are 5 minutes old.
        self.secret = secret
        self.verified = 0
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep silent about a sender that hung up."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def events(self) -> list[dict[str, Any]]:
        """The CloudEvents that were taken, as they came."""
        return [json.loads(body) for _, body in list(self.taken)]

    def ids(self) -> list[int]:
        """The ids of the events of the log that were taken, as they came."""
        return [int(event["id"].partition("-")[0]) for event in self.events()]

    def verify(self, secret: str) -> int:
        """Verify all signatures with the library, and return how many there are. Raises its error."""
        for headers, body in list(self.taken):
            Webhook(secret).verify(body, headers)
        return len(self.taken)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver
    status = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        got = ({name.lower(): value for name, value in self.headers.items()}, body)
        self.server.requests.append(got)
        if self.server.secret:
            Webhook(self.server.secret).verify(body, got[0])
            self.server.verified += 1
        self.server.behave(self, len(self.server.requests))

    do_GET = do_POST

    def send_response(self, code: int, message: str | None = None) -> None:
        if 200 <= code < 300:
            self.server.taken.append(self.server.requests[-1])
        super().send_response(code, message)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def firsts(ids: list[int]) -> list[int]:
    """Return the ids without repeats, in the order of their first coming."""
    return list(dict.fromkeys(ids))
