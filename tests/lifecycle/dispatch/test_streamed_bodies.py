"""What streams through a real web process: long bodies in both directions, early answers, and callers that wait."""

import os
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.lifecycle.conftest import NAME
from tests.servers import DEADLINE_SECONDS, wait_for

pytestmark = pytest.mark.both_servers

MB = 1024 * 1024
#: How much is sent. All of it would stay in memory if it were held.
BODY_MB = 1024 if os.environ.get("DORMOUSE_LONG") else 100
#: An agent that reads as much as the request says, and writes how much it has read and when.
AGENT = """
import asyncio, pathlib, sys

async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            await answer(head, reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()

async def answer(head, reader, writer):
    target = head.split(b" ")[1].decode()
    length = int(next((l.split(b": ")[1] for l in head.split(b"\\r\\n") if l.lower().startswith(b"content-length")), 0))
    if target == "/early":
        writer.write(b"HTTP/1.1 413 X\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\nlarge")
        await writer.drain()
        writer.close()
        return
    left = length
    while left:
        part = await reader.read(min(left, 65536))
        if not part:
            return
        left -= len(part)
        pathlib.Path("read").write_text(str(length - left))
    if target.startswith("/download"):
        size = int(target.split("=")[1])
        writer.write(b"HTTP/1.1 200 X\\r\\nContent-Length: %d\\r\\n\\r\\n" % size)
        for _ in range(size // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()
        return
    writer.write(b"HTTP/1.1 200 X\\r\\nContent-Length: 4\\r\\n\\r\\ndone")

async def main():
    await (await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))).serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def server(serve_agent):
    return serve_agent(AGENT)


def url_of(server, path):
    return f"{server.url}/api/instances/{NAME}/proxy/{path}"


def wake(server):
    assert httpx.get(url_of(server, ""), headers=server.bearer, timeout=DEADLINE_SECONDS).status_code == 200


def memory_mb(server):
    """Return the largest memory that the process has had since `measured` began."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@contextmanager
def measured(server):
    """Forget the largest memory that the process had before."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    yield memory_mb(server)


def connect(server, method, path, *headers):
    connection = socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS)
    lines = [f"{method} /api/instances/{NAME}/proxy/{path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    lines += [f"{name}: {value}" for name, value in server.bearer.items()]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    return connection


def read_all(connection):
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def test_the_agent_sees_the_first_byte_before_the_last_is_sent(server, tmp_path):
    read = tmp_path / "read"
    with connect(server, "POST", "upload", "Content-Length: 10", "Connection: close") as connection:
        connection.sendall(b"hello")
        wait_for(lambda: read.exists() and read.read_text() == "5")
        connection.sendall(b"again")
        assert read_all(connection).endswith(b"done")
    assert read.read_text() == "10"


@pytest.mark.uvicorn_too
def test_uploads_add_little_memory(server):
    """Four at once, each with at most 1 MB, and what the interpreter keeps of its own."""
    wake(server)
    part = b"x" * MB

    def upload():
        body = (part for _ in range(BODY_MB // 4))
        headers = server.bearer | {"Content-Length": str(BODY_MB // 4 * MB)}
        answers.append(httpx.post(url_of(server, "upload"), content=body, headers=headers, timeout=300).text)

    answers: list[str] = []
    upload()
    with measured(server) as before:
        threads = [threading.Thread(target=upload) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["done"] * 5
    assert memory_mb(server) - before < 8


@pytest.mark.uvicorn_too
def test_an_upload_with_a_wrong_token_is_cut_and_adds_no_memory(server):
    wake(server)
    headers = f"Content-Length: {1024 * MB}", "Dormouse-Token: wrong"
    with measured(server) as before, connect(server, "POST", "upload", *headers) as connection, pytest.raises(OSError):
        send_for_ever(connection)
    assert memory_mb(server) - before < 2


def send_for_ever(connection):
    while True:
        connection.sendall(b"x" * MB)


def test_a_download_adds_little_memory(server):
    def download():
        url = url_of(server, f"download?size={BODY_MB * MB}")
        with httpx.stream("GET", url, headers=server.bearer, timeout=300) as answer:
            return sum(map(len, answer.iter_raw()))

    wake(server)
    assert download() == BODY_MB * MB
    with measured(server) as before:
        download()
    assert memory_mb(server) - before < 4


@pytest.mark.uvicorn_too
def test_an_early_answer_reaches_a_caller_that_is_still_sending(server):
    wake(server)
    with connect(server, "POST", "early", f"Content-Length: {400 * MB}") as connection:
        connection.sendall(b"x" * 1000)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"large")


@pytest.mark.uvicorn_too
def test_a_caller_that_waits_for_100_continue_is_asked_when_the_agent_is_ready(server):
    with connect(server, "POST", "upload", "Content-Length: 5", "Expect: 100-continue", "Connection: close") as caller:
        assert caller.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.sendall(b"hello")
        assert read_all(caller).endswith(b"done")


def test_a_caller_without_access_is_not_asked_for_its_body(server):
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as connection:
        head = f"PUT /api/instances/{NAME}/proxy/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"
        connection.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 401 ")


def test_a_caller_that_has_finished_sending_gets_its_answer(server):
    with connect(server, "POST", "upload", "Content-Length: 5") as connection:
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).endswith(b"done")


def test_an_upload_whose_caller_hangs_up_is_broken_off_at_the_agent(server, tmp_path):
    read = tmp_path / "read"
    with connect(server, "POST", "upload", "Content-Length: 1000") as connection:
        connection.sendall(b"hello")
        wait_for(lambda: read.exists() and read.read_text() == "5")
    time.sleep(0)
    wake(server)
    assert read.read_text() == "5"
    assert "Traceback" not in server.log.read_text()
