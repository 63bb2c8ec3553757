"""Connections are bounded in time and number, and a caller that has only finished sending gets its answer."""

import contextlib
import os
import resource
import select
import socket
from typing import Any, cast

import httpx
import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from config.serving.daphne.channel import LimitedChannel
from config.serving.limits import BODY_SECONDS, HEADERS_SECONDS, IDLE_SECONDS, MAX_WAITING
from lifecycle.models import Instance, Lease
from lifecycle.state_machine import State
from tests.config.agents import agents_file
from tests.servers import DEADLINE_SECONDS, wait_for

pytestmark = pytest.mark.both_servers

LONG = bool(os.environ.get("DORMOUSE_LONG"))
STRANGERS = 1500
HALF = b"POST /accounts/login/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
DISPATCH = "/api/instances/works/dispatch"


@pytest.fixture(autouse=True)
def many_open_files():
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))


@pytest.fixture
def server(serve, tmp_path):
    with agents_file(tmp_path) as environment:
        yield serve(**environment)


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS)


def is_open(connection):
    """Return whether the server has not closed the connection."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return not poll.poll(0)


def read_all(connection):
    answer = b""
    while part := connection.recv(65536):
        answer += part
    return answer


@pytest.mark.parametrize("sent", [b"", HALF, HALF + b"\r\nusername="], ids=["idle", "headers", "body"])
def test_strangers_that_hold_connections_stop_no_other_caller(server, sent):
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(connect(server)) for _ in range(STRANGERS)]
        for stranger in strangers:
            with contextlib.suppress(OSError):  # closed already, because later ones have come
                stranger.sendall(sent)
        assert httpx.get(f"{server.url}/healthz", timeout=DEADLINE_SECONDS).status_code == 200
        answer = httpx.post(server.url + DISPATCH, headers=server.bearer, timeout=DEADLINE_SECONDS)
        assert answer.status_code == 200, answer.text
        with httpx.stream("GET", f"{server.url}/events", headers=server.bearer, timeout=DEADLINE_SECONDS) as stream:
            assert "stream-open" in next(stream.iter_text())
        wait_for(lambda: sum(map(is_open, strangers)) <= MAX_WAITING, what="the longest waiting to be closed")
    assert "Traceback" not in server.log.read_text()


def test_a_connection_between_two_requests_makes_room_for_others_too(server):
    with contextlib.ExitStack() as stack:
        idle = stack.enter_context(connect(server))
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in idle.recv(65536)
        for _ in range(MAX_WAITING):
            stack.enter_context(connect(server))
        wait_for(lambda: not is_open(idle), what="the connection to be closed")


class Transport(StringTransport):
    def setTcpKeepAlive(self, enabled):
        pass


class Channel:
    """A channel on a clock of the test's own."""

    def __init__(self):
        self.clock, self.transport = Clock(), Transport()
        self.channel = cast(Any, LimitedChannel())
        self.channel.callLater = self.channel._start_timer = self.clock.callLater
        self.channel.makeConnection(self.transport)

    def trickle(self, bytes, seconds):
        """Send one byte each second. Return after how many the channel was closed."""
        for number in range(seconds):
            self.channel.dataReceived(bytes[number : number + 1] or b"a")
            self.clock.advance(1)
            if self.transport.disconnecting:
                return number + 1
        return None


def test_headers_have_a_deadline_that_no_byte_prolongs():
    assert Channel().trickle(b"GET / HTTP/1.1\r\nHost: ", 100) == HEADERS_SECONDS


def test_a_body_has_a_deadline_that_no_byte_prolongs():
    one = Channel()
    one.channel.requestFactory = lambda channel, queued: Request()
    one.channel.dataReceived(HALF + b"\r\n")
    assert one.trickle(b"", 100) == BODY_SECONDS


def test_work_may_take_as_long_as_it_takes():
    one = Channel()
    one.channel.requestFactory = lambda channel, queued: Request()
    one.channel.dataReceived(HALF.replace(b"/accounts/login/", DISPATCH.encode()) + b"\r\n")
    assert one.trickle(b"", 99) is None


def test_a_connection_without_a_request_has_a_deadline():
    one = Channel()
    one.clock.advance(IDLE_SECONDS - 1)
    assert not one.transport.disconnecting
    one.clock.advance(1)
    assert one.transport.disconnecting


class Request:
    """The part of a request that the channel calls before the body is complete."""

    def __init__(self):
        from twisted.web.http_headers import Headers

        self.requestHeaders = Headers()

    def parseCookies(self):
        pass

    def gotLength(self, length):
        pass

    def handleContentChunk(self, data):
        pass


@pytest.mark.parametrize("path", ["/healthz", "/accounts/login/", "/no/such/page", "/static/agents_ui/stream.js"])
def test_a_caller_that_has_finished_sending_gets_its_answer(server, path):
    with connect(server) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    is_whole = body.endswith(b"0\r\n\r\n") if b"chunked" in head else b"content-length: %d" % len(body) in head.lower()
    assert is_whole, answer


def dispatch(server, seconds, version="1.1"):
    connection = connect(server)
    head = f"POST {DISPATCH} HTTP/{version}\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n"
    connection.sendall(f"{head}Authorization: Bearer {server.TOKEN}\r\n\r\n{seconds}".encode())
    return connection


@pytest.mark.uvicorn_too
def test_a_dispatch_of_a_caller_that_has_finished_sending_gets_its_answer(server):
    with dispatch(server, seconds=3) as connection:
        connection.shutdown(socket.SHUT_WR)
        interim, _, rest = read_all(connection).partition(b"HTTP/1.1 200 OK\r\n")
    assert b"done" in rest
    assert set(interim.split(b"\r\n\r\n")) == {b"HTTP/1.1 100 Continue", b""}


@pytest.mark.uvicorn_too
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_caller_that_has_finished_sending_and_then_hangs_up_is_noticed(server, version):
    connection = dispatch(server, seconds=9, version=version)
    wait_for(lambda: Lease.objects.count() == 1, what="the work")
    connection.shutdown(socket.SHUT_WR)
    connection.close()
    wait_for(lambda: Lease.objects.count() == 0, what="the lease to end")
    assert "Traceback" not in server.log.read_text()


@pytest.mark.uvicorn_too
def test_work_with_a_broken_body_is_refused_while_its_agent_is_woken(server):
    headers = f"Host: 127.0.0.1\r\nAuthorization: Bearer {server.TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(f"POST {DISPATCH} HTTP/1.1\r\n{headers}1\r\n9\r\n".encode())
        wait_for(lambda: Instance.objects.exclude(state=State.ASLEEP), what="the wake")
        connection.sendall(b"this is no length\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    wait_for(lambda: Instance.objects.filter(state=State.READY), what="the end of the wake")
    assert not Lease.objects.exists()
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
@pytest.mark.skipif(not LONG, reason="waits for a deadline: DORMOUSE_LONG=1")
def test_trickled_headers_are_cut_by_a_real_server(server):
    with connect(server) as connection:

        def is_cut():
            try:
                connection.sendall(b"G")
            except OSError:
                return True
            return not is_open(connection)

        wait_for(is_cut, seconds=4 * HEADERS_SECONDS, what="the deadline of the headers")
