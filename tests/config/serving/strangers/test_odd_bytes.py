"""Odd bytes of strangers, as they come over a socket, get a 4xx or a redirect, and no traceback."""

import socket

import pytest

from tests.servers import DEADLINE_SECONDS

ODD = [
    b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /static/%2e%2e/%2e%2e/config/settings.py HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /static/..%2f..%2fvar%2fsecret-key HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /api/instances/..%2f..%2fsecret HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b'GET /agents/ HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: sessionid="a\\000b"\r\n\r\n',
    b"GET /agents/ HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: sessionid=a\0b\r\n\r\n",
    b"GET /agents/ HTTP/1.1\r\nHost: 127.0.0.1\r\nDaphne-Root-Path: /%00\r\nX-Forwarded-Prefix: /x\r\n\r\n",
    b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nScript-Name: /x\r\nX-Forwarded-Host: evil.example\r\n\r\n",
    b"GET /agents/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /agents/ HTTP/1.1\r\nHost: a\xff\r\n\r\n",
    b"POST /accounts/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"\0\r\n\r\n",
]


@pytest.fixture
def server(serve):
    return serve()


def test_odd_bytes_get_a_4xx_and_no_traceback(server):
    statuses = {}
    for sent in ODD:
        with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            statuses[sent] = int(connection.recv(100).split(b" ")[1])
    assert {one for one in statuses.values() if one != 302 and not 400 <= one < 500} == set(), statuses
    assert "Traceback" not in server.log.read_text(), server.log.read_text()
