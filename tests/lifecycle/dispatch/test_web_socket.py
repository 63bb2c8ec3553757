"""WebSockets to an agent through a real web process, with a client and an agent that others wrote."""

import json
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from access.models import Token
from events.models import EventLog
from lifecycle.models import Lease
from tests.lifecycle.conftest import NAME
from tests.servers import DEADLINE_SECONDS, wait_for

pytestmark = pytest.mark.both_servers

MB = 1024 * 1024
MESSAGES = 10_000 if os.environ.get("DORMOUSE_LONG") else 1_000
#: Answers a GET for the probe, and does what the text messages say. Others it sends back.
AGENT = """
import asyncio, http, json, os, signal, sys
from websockets.asyncio.server import serve

def process(connection, request):
    if request.headers.get("Upgrade") is None:
        return connection.respond(http.HTTPStatus.OK, "ready")
    if request.path.startswith("/refused"):
        return connection.respond(http.HTTPStatus(int(request.path[-3:])), "no")

async def handle(socket):
    try:
        await answer(socket)
    finally:
        open("closed", "w", encoding="utf-8").write(f"{socket.close_code} {socket.close_reason}")

async def answer(socket):
    async for message in socket:
        if message == "headers":
            await socket.send(json.dumps([socket.request.path, dict(socket.request.headers.raw_items())]))
        elif message == "close":
            await socket.close(4001, "enough: \\u00e9")
        elif message == "die":
            os._exit(3)
        elif message == "say goodbye":
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, lambda: loop.create_task(leave(socket)))
            await socket.send("yes")
        elif message == "flood":
            for number in range(200):
                await socket.send(b"x" * 1_000_000)
                open("sent", "w").write(str(number + 1))
        elif message == "stall":
            await asyncio.sleep(2)
        elif isinstance(message, bytes) and message.startswith(b"-"):
            pass
        elif message == "large":
            await socket.send(b"x" * (17 * 1024 * 1024))
        else:
            await socket.send(message)

async def leave(socket):
    await socket.close(1001, "goodbye")
    os._exit(0)

def select(connection, offered):
    return next((protocol for protocol in offered if protocol in ("b", "c")), None)

async def main():
    options = {"process_request": process, "max_size": None, "select_subprotocol": select}
    async with serve(handle, "127.0.0.1", int(sys.argv[1]), **options) as running:
        await running.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def server(serve_agent):
    return serve_agent(AGENT)


def open_socket(server, path="ws?x=%20y", headers=None, **options):
    url = f"{server.url.replace('http', 'ws')}/api/instances/{NAME}/proxy/{path}"
    headers = server.bearer if headers is None else headers
    return connect(url, additional_headers=headers, max_size=None, open_timeout=DEADLINE_SECONDS, **options)


def status_under(asgi_server, status):
    """Return the status of a refusal. Under daphne it is always 403."""
    return 403 if asgi_server == "daphne" else status


@pytest.mark.uvicorn_too
def test_messages_pass_in_both_directions_and_keep_their_kind(server):
    sent = ["text é", b"\x00\xff", "", b"", "x" * (10 * MB), b"x" * (10 * MB)]
    with open_socket(server) as socket:
        for message in sent:
            socket.send(message)
            assert socket.recv(DEADLINE_SECONDS) == message


def test_many_messages_pass_in_order(server):
    with open_socket(server) as socket:
        threading.Thread(target=lambda: [socket.send(str(number)) for number in range(MESSAGES)], daemon=True).start()
        assert [socket.recv(DEADLINE_SECONDS) for _ in range(MESSAGES)] == [str(number) for number in range(MESSAGES)]


def test_path_query_headers_and_subprotocol_pass(server):
    with open_socket(server, subprotocols=["a", "b"], origin="http://elsewhere") as socket:
        assert socket.subprotocol == "b"
        socket.send("headers")
        path, headers = json.loads(socket.recv(DEADLINE_SECONDS))
    assert path == "/ws?x=%20y"
    named = {name.lower() for name in headers}
    assert {"x-forwarded-for", "x-forwarded-prefix", "origin"} <= named
    assert not {"authorization", "sec-websocket-extensions"} & named


def test_an_open_one_is_work_in_flight_and_a_closed_one_is_not(server):
    with open_socket(server) as socket:
        socket.send("x")
        socket.recv(DEADLINE_SECONDS)
        assert Lease.objects.count() == 1
    wait_for(lambda: not Lease.objects.exists())


def test_the_agents_code_and_reason_reach_the_caller(server):
    with open_socket(server) as socket:
        socket.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(DEADLINE_SECONDS)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "enough: é")


def test_the_callers_code_and_reason_reach_the_agent(server, tmp_path):
    with open_socket(server) as socket:
        socket.close(4002, "é")
    wait_for((tmp_path / "closed").exists)
    wait_for(lambda: (tmp_path / "closed").read_text("utf-8") == "4002 é")


def test_a_caller_that_disappears_is_closed_at_the_agent(server, tmp_path):
    socket = open_socket(server)
    socket.socket.close()
    wait_for((tmp_path / "closed").exists)
    wait_for(lambda: not Lease.objects.exists())


def test_an_agent_that_dies_is_told_to_the_caller(server):
    with open_socket(server) as socket:
        socket.send("die")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(DEADLINE_SECONDS)
    assert closed.value.rcvd.code == 1014
    wait_for(lambda: not Lease.objects.exists())


@pytest.mark.parametrize(("asked", "code"), [("say goodbye", 1001), ("yes", 1014)])
def test_one_that_a_person_breaks_off_is_told_with_the_reason(server, asked, code):
    headers = {"Authorization": f"Bearer {Token.objects.issue('alice', 'operator')[1]}"}
    with open_socket(server) as socket:
        socket.send(asked)
        assert socket.recv(DEADLINE_SECONDS) == "yes"
        address = f"{server.url}/api/instances/{NAME}/sleep?force=true"
        assert httpx.post(address, headers=headers, timeout=DEADLINE_SECONDS).status_code == 200
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(DEADLINE_SECONDS)
        assert closed.value.rcvd.code == code
    told = wait_for(lambda: EventLog.objects.filter(type="work.failed").first())
    assert told.data["error"].endswith(": it was put to sleep by alice")


@pytest.mark.uvicorn_too
@pytest.mark.parametrize("who", ["caller", "agent"])
def test_a_message_above_16_mb_closes_with_1009(server, who):
    with open_socket(server) as socket:
        with suppress(ConnectionClosed):
            socket.send(b"x" * (17 * MB) if who == "caller" else "large")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(DEADLINE_SECONDS)
    assert closed.value.rcvd.code == 1009


@pytest.mark.uvicorn_too
@pytest.mark.parametrize("path", ["refused/404", "refused/503"])
def test_what_the_agent_refuses_is_refused(server, asgi_server, path):
    with pytest.raises(InvalidStatus) as refused:
        open_socket(server, path)
    assert refused.value.response.status_code == status_under(asgi_server, int(path[-3:]))
    wait_for(lambda: not Lease.objects.exists())


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Dormouse-Token": "wrong"}])
def test_a_stranger_is_refused(server, asgi_server, headers):
    with pytest.raises(InvalidStatus) as refused:
        open_socket(server, headers=headers)
    assert refused.value.response.status_code == status_under(asgi_server, 401)
    assert "started" not in server.log.read_text()


def test_a_session_needs_our_own_origin(server):
    user = User.objects.create_user("anne")
    user.user_permissions.add(Permission.objects.get(codename="dispatch_instance"))
    client = Client()
    client.force_login(user)
    cookie = {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}
    for origin in (None, "http://elsewhere.example", server.url.replace("http", "https")):
        with pytest.raises(InvalidStatus):
            open_socket(server, headers=cookie, origin=origin)
    with open_socket(server, headers=cookie, origin=server.url) as socket:
        socket.send("x")
        assert socket.recv(DEADLINE_SECONDS) == "x"


def test_the_agent_goes_no_faster_than_its_caller_reads(server, tmp_path):
    with open_socket(server, max_queue=1) as socket:
        socket.send("flood")
        before, sent = "", tmp_path / "sent"
        while before != (before := wait_for(lambda: sent.exists() and sent.read_text())):
            time.sleep(2)
        assert int(before) < 100  # megabytes of 200
        assert sum(len(socket.recv(DEADLINE_SECONDS)) for _ in range(200)) == 200_000_000


def test_the_caller_goes_no_faster_than_the_agent_reads(server):
    """The process keeps little of what the agent has not taken while it is busy."""

    def memory_mb():
        return int(Path(f"/proc/{server.process.pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024

    with open_socket(server) as socket:
        socket.send("x")
        socket.recv(DEADLINE_SECONDS)
        before = memory_mb()
        socket.send("stall")
        for _ in range(100):
            socket.send(b"-" * 500_000)
        socket.send("the end")
        assert memory_mb() - before < 20
        assert socket.recv(DEADLINE_SECONDS) == "the end"
    assert "Traceback" not in server.log.read_text()


def test_an_upgrade_that_is_no_proxy_is_refused(server, asgi_server):
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **server.bearer}
    for path, status in (("dispatch", 405), ("dispatch/x", 403), ("", 403)):
        answer = httpx.get(f"{server.url}/api/instances/{NAME}/{path}", headers=headers)
        assert answer.status_code == status_under(asgi_server, status)


@pytest.mark.uvicorn_too
def test_an_end_of_the_process_closes_with_1012(server):
    with open_socket(server) as socket:
        socket.send("x")
        assert socket.recv(DEADLINE_SECONDS) == "x"
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(DEADLINE_SECONDS)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "Dormouse is ending")
    assert server.process.wait(DEADLINE_SECONDS) == 0
