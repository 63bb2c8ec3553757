"""Thousands of cursors, headers and query strings that no client should send: no 500, no hang, no connection left."""

import asyncio
import random
import socket
from urllib.parse import quote_from_bytes

import httpx
import pytest
from django.db import connection
from httpx_sse import EventSource

from access.middleware import AsgiAccess
from events.log import record
from events.stream.consumer import EventStream
from events.stream.reader import Limits
from tests.events.stream.listening import connected
from tests.servers import DEADLINE_SECONDS, wait_for

pytestmark = pytest.mark.both_servers

COUNT = 5_000 if connection.vendor == "sqlite" else 500
AT_ONCE = 25
PARAMETERS = ["after", "lastEventId", "instance", "type", "Last-Event-ID", "before", "", "after[]", "csrf", "%61fter"]
PIECES = [
    *(b"0 1 2 3 42 -1 +1 1.5 1e3 0x1f 00000000002 99999999999999999999 events: events:2 events:abc other:1".split()),
    *(b"null None undefined NaN true error garbage ' \" ; -- ../.. <script> {{7*7}} ${x} %s %n \\".split()),
    *(
        word.encode()
        for word in ("", " ", "ü", "٤٢", "２", "🐭", "\u2028", "\ufeff", "\u202e", "\0", "\r\n", "\n\ndata: forged\n\n")
    ),
    b"\xff\xfe",
    b"\xc3",
    b"9" * 18,
    b"9" * 5000,
]


class Dice(random.Random):
    """Return random requests with a fixed seed, so that a failure can be repeated."""

    def text(self):
        pieces = [self.choice(PIECES) for _ in range(self.choice([1, 1, 1, 2, 3]))]
        return self.choice([b"", b",", b":", b" "]).join(pieces) if self.random() < 0.8 else self.randbytes(20)

    def query(self):
        count = self.choice([0, 1, 1, 2, 5]) if self.random() < 0.99 else 1001
        quoted = self.choice([lambda text: text, quote_from_bytes, lambda text: quote_from_bytes(text).encode()])
        parts = []
        for _ in range(count):
            value = quoted(self.text())
            value = value.encode() if isinstance(value, str) else value
            parts.append(self.choice(PARAMETERS).encode() + self.choice([b"=", b"=", b"=", b"", b"=="]) + value)
        return self.choice([b"&", b"&", b"&", b";", b"&&"]).join(parts)

    def headers(self):
        if self.random() < 0.5:
            return []
        return [(b"last-event-id", self.text()) for _ in range(self.choice([1, 1, 1, 2]))]


async def ask(app, query, headers):
    """The status, and the messages of the stream up to its first silence."""
    incoming, outgoing = asyncio.Queue(), asyncio.Queue()
    scope = {"type": "http", "method": "GET", "path": "/events", "query_string": query}
    scope["headers"] = [(b"host", b"localhost"), (b"authorization", b"Bearer the-tests-token"), *headers]
    incoming.put_nowait({"type": "http.request", "body": b""})
    task = asyncio.create_task(app(scope, incoming.get, outgoing.put))
    async with asyncio.timeout(DEADLINE_SECONDS):
        start = await outgoing.get()
        body = b""
        while b"event: keep-alive\n" not in body:
            message = await outgoing.get()
            body += message["body"]
            if not message.get("more_body"):
                break
        incoming.put_nowait({"type": "http.disconnect"})
        await task
    return start["status"], body


def is_readable(query):
    """Return whether Django can parse the request."""
    try:
        return query.decode().count("&") < 1000
    except UnicodeDecodeError:
        return False


def messages(body):
    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    return [message.event for message in EventSource(answer).iter_sse()]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_any_cursor_header_and_query_is_answered_and_leaves_nothing_behind():
    dice = Dice(3)
    requests = [(dice.query(), dice.headers()) for _ in range(COUNT)]
    for _ in range(3):
        record("a.b")
    app = AsgiAccess(EventStream.as_asgi(limits=Limits(keep_alive_seconds=0.001)))
    answers = {}

    async def asking(mine):
        for request in mine:
            answers[request] = await ask(app, request[0], request[1])

    async def run():
        async with asyncio.TaskGroup() as group:
            for n in range(AT_ONCE):
                group.create_task(asking([(query, tuple(headers)) for query, headers in requests[n::AT_ONCE]]))

    asyncio.run(run(), debug=False)  # which is slow, and the default with PYTHONDEVMODE
    for (query, headers), (status, body) in answers.items():
        assert status == (200 if is_readable(query) else 400), (query, headers, body)
        if status == 200:
            told = messages(body)
            assert told[0] == "stream-open", (query, headers, body)
            assert set(told[1:]) <= {"stream-reset", "a.b", "keep-alive"}, (query, headers, body)
            assert told.count("stream-reset") <= 1
    assert EventStream.slots.taken == 0
    assert not EventStream.slots.taken_by


def test_a_real_server_answers_them_too(serve):
    """Send the bytes as they are. Some of them are not HTTP at all."""
    server = serve(DORMOUSE_MAX_STREAMS="20", PYTHONDEVMODE="")
    dice = Dice(4)
    statuses = set()
    for _ in range(300):
        lines = [b"GET /events?" + dice.query().replace(b" ", b"%20") + b" HTTP/1.1", b"Host: localhost"]
        lines += [b"Authorization: Bearer the-tests-token"]
        lines += [name + b": " + value for name, value in dice.headers()]
        with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as client:
            client.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
            statuses.add(client.recv(12))
    # No answer at all (b"") is what daphne gives to what is no request. For a long address uvicorn gives 414.
    assert statuses <= {b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.1 414", b"HTTP/1.1 503", b""}
    wait_for(lambda: all_places_are_free(server), what="the server to see the hang-ups")


def all_places_are_free(server):
    held = []
    try:
        for _ in range(20):
            source = connected(server)
            held.append(source)
            if source.__enter__().response.status_code != 200:
                return False
        return True
    finally:
        for source in held:
            source.__exit__(None, None, None)
