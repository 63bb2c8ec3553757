"""What daphne's request class of our own does to a connection: raw bytes against a real web process."""

import socket
import time

import pytest

from tests.servers import DEADLINE_SECONDS, wait_for

pytestmark = pytest.mark.both_servers


@pytest.fixture
def connection(serve):
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as connection:
        yield connection
    assert "Traceback" not in server.log.read_text()


def head(method="POST", path="/healthz", **headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def read_all(connection):
    """Return everything until the server closes."""
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def read_until(connection, end):
    found = b""
    while end not in found:
        part = connection.recv(65536)
        assert part, found
        found += part
    return found


def is_only_a_400(answer):
    return answer.startswith(b"HTTP/1.1 400 Bad Request\r\n") and answer.count(b"HTTP/1.1 ") == 1


def test_a_body_that_is_wanted_is_asked_for_once(connection):
    connection.sendall(head(Content_Length=3, Expect="100-continue"))
    assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(b"abc")
    assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 405 ")


def test_a_body_that_is_not_wanted_is_not_asked_for(connection):
    connection.sendall(head(Content_Length=10_000_000, Expect="100-continue"))
    assert read_all(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.uvicorn_too
def test_a_caller_that_sends_the_rest_of_a_refused_body_gets_the_answer(connection):
    """It is read and thrown away for a moment: closing a socket with unread data resets the connection."""
    connection.sendall(head(Content_Length=600_000) + b"x" * 600_000)
    assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_a_connection_serves_one_request_after_another(connection):
    for _ in range(3):
        connection.sendall(head("GET") + head(Content_Length=3) + b"abc")
        answers = read_until(connection, b"HTTP/1.1 405 ")
        assert answers.startswith(b"HTTP/1.1 200 ")
        if not answers.endswith(b"\r\n\r\n"):
            read_until(connection, b"\r\n\r\n")


@pytest.mark.parametrize("body", [b"", b"abc"])
def test_a_request_that_daphne_refuses_is_answered(connection, body):
    """Daphne answers a name with a blank by itself, in the middle of calling the application."""
    connection.sendall(head(Content_Length=len(body), **{"a(b": "x"}) + body)
    assert read_all(connection).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: +3\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"X: a\nContent-Length: 3\r\n",
    ],
)
def test_contradictions_about_the_length_are_400(connection, framing):
    connection.sendall(b"POST /healthz HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\nabc")
    assert is_only_a_400(read_all(connection))


def test_broken_chunks_end_the_connection(connection):
    connection.sendall(head(Transfer_Encoding="chunked") + b"3\r\nabc\r\nthis is no length\r\n")
    assert is_only_a_400(read_all(connection))


REFUSED = {
    "a length with a sign": head(Content_Length="+3"),
    "a long line": b"G" * 20_000,
    "a long header": b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 100_000,
    "a broken chunk": head(Transfer_Encoding="chunked") + b"3\r\nabc\r\nthis is no length\r\n",
}


@pytest.mark.uvicorn_too
@pytest.mark.parametrize("start", REFUSED.values(), ids=REFUSED)
def test_a_caller_that_is_refused_and_goes_on_sending_gets_the_answer_and_no_other(connection, start):
    """What it goes on to send are requests. None of them is answered."""
    connection.sendall(start)
    for _ in range(20):
        time.sleep(0.02)
        connection.sendall(head("GET") * 300)
    answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 4")
    assert answer.count(b"HTTP/1.") == 1


@pytest.mark.uvicorn_too
@pytest.mark.parametrize("start", REFUSED.values(), ids=REFUSED)
def test_a_refused_caller_that_says_nothing_more_is_cut(connection, start):
    connection.sendall(start)
    assert read_all(connection).count(b"HTTP/1.") == 1
    wait_for(lambda: is_reset(connection), what="the end of the connection")


def is_reset(connection):
    try:
        connection.sendall(b"x")
    except OSError:
        return True
    return False


def test_an_upgrade_with_a_body_is_an_ordinary_request(connection):
    connection.sendall(head("GET", Upgrade="websocket", Connection="Upgrade", Content_Length=3) + b"abc")
    assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
