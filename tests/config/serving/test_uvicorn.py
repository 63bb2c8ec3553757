"""Under uvicorn a connection has the limits that it has under daphne, and answers are framed as they should be.

The limits in time are a fraction of a second here.
"""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from django.core.exceptions import ImproperlyConfigured
from uvicorn.protocols.http import httptools_impl

from config.serving import limits
from config.serving.uvicorn import server as under_uvicorn
from config.serving.uvicorn.answer import Answer
from config.serving.uvicorn.connection import MAX_HEAD_BYTES, Connection
from tests.servers import DEADLINE_SECONDS

LIMIT_SECONDS = 0.3
LOGIN, DISPATCH = b"/accounts/login/", b"/api/instances/works/dispatch"


@pytest.fixture(autouse=True)
def short_limits(monkeypatch):
    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", Answer)
    monkeypatch.setattr(Connection, "waiting", limits.Waiting())
    for name in ("IDLE_SECONDS", "HEADERS_SECONDS", "BODY_SECONDS", "STALLED_SECONDS"):
        monkeypatch.setattr(limits, name, LIMIT_SECONDS)


async def application(scope, receive, send):
    """Answer at /length/STATUS with a length, and at /STATUS without; at another path read the body first."""
    kind, _, status = scope["path"].rpartition("/")
    if not status.isdigit():
        while (await receive()).get("more_body"):
            pass
        status = "200"
    size = int(scope["query_string"] or 5)
    headers = [(b"content-length", b"%d" % size)] if kind == "/length" else []
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    body = b"" if status in ("204", "304") else b"x" * size
    if scope["path"] == "/echo":
        body = repr(scope["headers"]).encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def serving():
    """Serve the application, and provide a function that connects to it."""
    server = uvicorn.Server(under_uvicorn._configure(application, "127.0.0.1", 0))
    await under_uvicorn.start(server)
    port = server.servers[0].sockets[0].getsockname()[1]
    writers = []

    async def connect():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    try:
        yield connect
    finally:
        for writer in writers:
            writer.close()
        server.servers[0].close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0.05)


def run(test):
    async def with_deadline():
        async with asyncio.timeout(DEADLINE_SECONDS), serving() as connect:
            return await test(connect)

    return asyncio.run(with_deadline())


def ask(sent):
    """Send bytes, and return everything until the server closes."""

    async def test(connect):
        reader, writer = await connect()
        writer.write(sent)
        return await reader.read()

    return run(test)


def head(path, *headers, method=b"GET", version=b"1.1"):
    return b"\r\n".join([b"%s %s HTTP/%s" % (method, path, version), b"Host: x", *headers, b"", b""])


CLOSE = b"Connection: close"
LONG_BODY = b"Content-Length: 100000"
TRICKLED = {
    "nothing": (b"", b""),
    "headers": (b"GET / HTTP/1.1\r\nX: ", b"a"),
    "a body": (head(LOGIN, LONG_BODY, method=b"POST"), b"a"),
    "a second request": (head(b"/200") + b"GET / HTTP/1.1\r\nX: ", b"a"),
    "the body of a second request": (head(b"/200") + head(LOGIN, LONG_BODY, method=b"POST"), b"a"),
}


@pytest.mark.parametrize("what", TRICKLED)
def test_a_caller_that_trickles_is_cut(what):
    first, byte = TRICKLED[what]

    async def test(connect):
        reader, writer = await connect()
        writer.write(first)
        with suppress(OSError):
            while not reader.at_eof():
                writer.write(byte)
                await writer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1000), LIMIT_SECONDS / 10)

    run(test)


def test_work_may_trickle():
    async def test(connect):
        reader, writer = await connect()
        writer.write(head(DISPATCH, b"Content-Length: 30", CLOSE, method=b"POST"))
        for _ in range(30):
            writer.write(b"a")
            await asyncio.sleep(LIMIT_SECONDS / 10)
        return await reader.read()

    assert run(test).startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_answer_that_its_caller_does_not_read_is_given_up(monkeypatch):
    ended, lost = asyncio.Event(), Connection.connection_lost

    def note(connection, exc):
        lost(connection, exc)
        ended.set()

    monkeypatch.setattr(Connection, "connection_lost", note)

    async def test(connect):
        _, writer = await connect()
        writer.transport.pause_reading()
        writer.write(head(b"/200?50000000"))
        await ended.wait()

    run(test)


def test_the_connection_that_waits_longest_makes_room(monkeypatch):
    monkeypatch.setattr(limits, "IDLE_SECONDS", DEADLINE_SECONDS)
    monkeypatch.setattr(limits, "MAX_WAITING", 3)

    async def test(connect):
        readers = [(await connect())[0] for _ in range(5)]
        with suppress(ConnectionResetError):
            assert await readers[0].read() == b""
        with suppress(ConnectionResetError):
            assert await readers[1].read() == b""
        assert not any(reader.at_eof() for reader in readers[2:])

    run(test)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 600_000, b"431"),
        (b"GET /" + b"a" * MAX_HEAD_BYTES, b"414"),
        (head(b"/", *[b"X: x"] * MAX_HEAD_BYTES), b"431"),
        (head(b"/", b"Transfer-Encoding: chunked", version=b"1.0"), b"400"),
    ],
)
def test_what_is_too_large_or_odd_is_refused(sent, status):
    assert ask(sent).startswith(b"HTTP/1.1 " + status)


def test_headers_that_come_in_pieces_are_counted_once():
    whole = head(b"/200", *[b"X: " + b"a" * 1000] * 14, CLOSE)
    assert len(whole) < MAX_HEAD_BYTES

    async def test(connect):
        reader, writer = await connect()
        for begin in range(0, len(whole), 1400):
            writer.write(whole[begin : begin + 1400])
            await asyncio.sleep(0.001)  # so that the server reads it by itself
        return await reader.read()

    assert run(test).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        (b"GET", b"/length/304", b"content-length: 5"),
        (b"GET", b"/304", b""),
        (b"GET", b"/204", b""),
        (b"HEAD", b"/length/200", b"content-length: 5"),
        (b"HEAD", b"/200", b""),
    ],
)
def test_answers_without_a_body_are_whole(method, path, headers):
    answer = ask(head(path, method=method) + head(b"/404", CLOSE))
    first, second = answer.split(b"HTTP/1.1 404 Not Found\r\n")
    assert headers in first
    assert first.count(b"date: ") == 1
    assert first.endswith(b"\r\n\r\n")
    assert second.endswith(b"5\r\nxxxxx\r\n0\r\n\r\n")


def test_trailers_are_no_headers():
    chunks = b"1\r\na\r\n0\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
    sent = head(b"/echo", CLOSE, b"Transfer-Encoding: chunked", method=b"POST") + chunks
    assert b"x-forwarded-for" not in ask(sent)
    assert b"x-forwarded-for" in ask(head(b"/echo", CLOSE, b"X-Forwarded-For: 192.0.2.1"))


def test_http_1_0_gets_no_chunks():
    answer = ask(head(b"/200", version=b"1.0"))
    assert answer.endswith(b"\r\n\r\nxxxxx")
    assert b"connection: close" in answer
    assert b"chunked" not in answer


def test_garbage_behind_a_request_does_not_get_into_its_answer():
    answer = ask(head(b"/200") + b"\0\1\2" * 100)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b"0\r\n\r\n")


def test_an_upgrade_that_is_not_known_ends_the_connection():
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c")
    answer = ask(head(b"/200", *upgrade) + head(b"/404"))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer


def test_another_version_of_uvicorn_is_refused(monkeypatch):
    async def drain():
        pass

    monkeypatch.setattr(uvicorn, "__version__", "0,1")
    with pytest.raises(ImproperlyConfigured, match="but 0,1 and"):
        under_uvicorn.serve(None, "", 0, when_serving=print, drain=drain, clean_up=print)
