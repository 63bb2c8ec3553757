"""Bodies are bounded before access is decided, and forms are parsed by Django alone."""

import socket
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from access.identity.tokens import TokenUser
from config.serving.bodies import MAX_BODY_BYTES
from config.serving.daphne.requests import StreamedRequest
from config.serving.limits import LINGER_SECONDS
from tests.servers import DEADLINE_SECONDS

pytestmark = pytest.mark.both_servers

MB = 1024 * 1024
DISPATCH = "/api/instances/reviewer-default/dispatch"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def server(serve):
    return serve()


def send_part(server, path, headers, length=40 * MB, sent=1024):
    """Announce a long body, send its beginning, and return the status and the answer's end."""
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as connection:
        lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + b"a&" * (sent // 2))
        connection.settimeout(DEADLINE_SECONDS)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return int(answer.split(b" ")[1]), answer


@pytest.mark.parametrize("path", ["/accounts/login/", "/admin/login/", "/agents/", "/no/such/page", "/healthz"])
@pytest.mark.parametrize("headers", [FORM, {"Content-Type": "multipart/form-data; boundary=x"}, {}])
def test_a_large_body_of_a_stranger_is_refused_on_its_headers(server, path, headers):
    status, answer = send_part(server, path, headers)
    assert status == 413
    assert b"connection: close" in answer.lower()
    assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (FORM, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic x"}, 401),
        ({"Cookie": "sessionid=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}, 401),
        ({"Cookie": 'sessionid="aaaaaaaaaa\\000b"'}, 401),
    ],
)
def test_a_large_dispatch_without_access_is_refused_on_its_headers(server, headers, status):
    assert send_part(server, DISPATCH, headers)[0] == status


def session_of(*permissions):
    user = User.objects.create_user("someone", password="x")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}


def test_a_large_dispatch_of_a_session_without_the_permission_is_refused_on_its_headers(server):
    assert send_part(server, DISPATCH, session_of("view_eventlog"))[0] == 403


@pytest.mark.parametrize("who", ["token", "session"])
@pytest.mark.parametrize("headers", [FORM, {"Content-Type": "multipart/form-data; boundary=x"}, {}])
def test_large_work_of_a_permitted_caller_is_read_to_its_end(server, who, headers):
    """The instance is unknown, so the answer comes from the view, which has the whole body."""
    access = server.bearer if who == "token" else session_of("dispatch_instance") | {"X-CSRFToken": "t" * 32}
    if who == "session":
        access["Cookie"] += f"; csrftoken={'t' * 32}"
    answer = httpx.post(server.url + DISPATCH, content=b"a&" * (2 * MB), headers=headers | access, timeout=60)
    assert answer.status_code == 404, answer.text


def test_a_body_without_a_length_is_counted(server):
    def parts():
        for _ in range(40):
            yield b"x" * (MAX_BODY_BYTES // 8)
            time.sleep(0.01)

    try:
        status = httpx.post(f"{server.url}/accounts/login/", content=parts(), timeout=60).status_code
    except httpx.WriteError:  # the server had closed before the client looked for an answer
        status = 413
    assert status == 413


def test_others_are_served_while_strangers_send_large_forms(server):
    sockets = []
    for _ in range(50):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(
            f"POST /accounts/login/ HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['Content-Type']}\r\n"
            f"Content-Length: {40 * MB}\r\n\r\n".encode()
            + b"a&" * 20_000
        )
        sockets.append(connection)
    assert httpx.get(f"{server.url}/healthz", timeout=DEADLINE_SECONDS).status_code == 200
    for connection in sockets:
        connection.close()


@pytest.mark.parametrize("headers", [FORM, {"Content-Type": "multipart/form-data; boundary=x"}, {}])
def test_bodies_without_access_are_not_kept_on_disk(serve, tmp_path, headers):
    """Twisted by itself keeps what is longer than 100 kB in a file."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    server = serve(TMPDIR=str(folder))
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join(["POST /accounts/login/ HTTP/1.1", "Host: 127.0.0.1", "Transfer-Encoding: chunked", *lines])
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as connection:
        with suppress(OSError):  # a caller that is refused may be cut
            connection.sendall(head.encode() + b"\r\n\r\n" + b"%x\r\n%s\r\n" % (200_000, b"x" * 200_000))
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        assert not [path for path in open_files(server.process.pid) if path.startswith(str(folder))]
    assert not list(folder.iterdir())


def open_files(pid):
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            yield str(file.readlink())


def test_a_small_form_still_signs_in(server):
    User.objects.create_superuser("admin", password="admin")
    with httpx.Client(base_url=server.url) as client:
        client.get("/accounts/login/")
        form = {"username": "admin", "password": "admin", "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        assert client.post("/accounts/login/", data=form).status_code == 302


@pytest.mark.parametrize("path", ["/healthz", "/agents/", "/accounts/login/", "/events"])
def test_a_strangers_root_path_is_ignored(server, path):
    plain = httpx.get(server.url + path)
    moved = httpx.get(server.url + path, headers={"Daphne-Root-Path": "/x"})
    assert (moved.status_code, moved.headers.get("location")) == (plain.status_code, plain.headers.get("location"))
    assert "Traceback" not in server.log.read_text()


def send_for_ever(connection):
    while True:
        connection.sendall(b"x" * 65536)


def test_a_refused_connection_is_cut_if_its_caller_goes_on(server):
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {400 * MB}\r\n\r\n".encode())
        began = time.monotonic()
        with pytest.raises(OSError):
            send_for_ever(connection)
    assert time.monotonic() - began < LINGER_SECONDS + DEADLINE_SECONDS


def test_the_class_is_the_one_that_daphne_uses():
    """Daphne has no setting for it: a daphne that takes its class from elsewhere must fail here."""
    from daphne import http_protocol
    from daphne.server import Server

    import config.asgi  # noqa: F401

    server = Server(lambda scope: None, endpoints=["tcp:0"])
    protocol = http_protocol.HTTPFactory(server).buildProtocol(None)
    assert protocol.requestFactory is StreamedRequest
    assert TokenUser().has_perm("lifecycle.dispatch_instance")
