"""Dormouse behind nginx, Caddy and HAProxy, with their files in `deploy/`."""

import os
import re
import subprocess
import threading
import zlib
from urllib.parse import urlparse

import httpx
import pytest
from django.contrib.auth.models import User
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from events.log import record
from tests.servers import DEADLINE_SECONDS, wait_for

MB = 1024 * 1024
UPLOAD_BYTES = (100 if os.environ.get("DORMOUSE_LONG") else 8) * MB
EVENTS = 300


def log_in(site, client, password):
    """Send the form of the login, as a browser does."""
    page = client.get(f"{site.url}/accounts/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
    form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token}
    address = urlparse(site.url)
    origin = {"Origin": f"https://{address.netloc}", "Referer": str(page.url)}
    return client.post(f"{site.url}/accounts/login/", data=form, headers=origin)


def test_a_person_signs_in(site):
    User.objects.create_superuser("admin", password="admin")
    with site.connect() as client:
        answer = log_in(site, client, "admin")
        assert answer.status_code == 302, answer.text
        assert answer.headers["location"] == urlparse(site.url).path + "/agents/"
        assert "Secure" in answer.headers["set-cookie"]
        assert client.get(f"{site.url}/agents/").status_code == 200


def test_http_2_is_spoken(site):
    command = ["curl", "--silent", "--http2", "--cacert", f"{site.proxy.certificate}.crt", "--output", os.devnull]
    command += ["--write-out", "%{http_version} %{http_code}", f"{site.url}/api/instances"]
    headers = [part for name, value in site.bearer.items() for part in ("--header", f"{name}: {value}")]
    assert subprocess.run([*command, *headers], check=True, capture_output=True, text=True).stdout == "2 200"


def test_plain_http_leads_to_https(site):
    answer = httpx.get(f"http://localhost:{site.proxy.http_port}{urlparse(site.url).path}/agents/")
    assert answer.status_code in (301, 308)
    assert answer.headers["location"].startswith("https://localhost")


def test_the_log_has_the_address_of_the_client_and_not_of_the_proxy(site):
    with site.connect(local_address="127.0.0.9") as client:
        client.headers["X-Forwarded-For"] = "192.0.2.1"  # what a client says of itself is not believed
        assert log_in(site, client, "wrong").status_code == 200
    logged = "".join(server.log.read_text() for server in site.servers)
    assert "A login failed: name 'admin', address 127.0.0.9" in logged


def test_an_answer_passes_piece_by_piece(site, tmp_path):
    (tmp_path / "one").touch()
    with (
        site.connect() as client,
        client.stream(
            "POST", f"{site.url}/api/instances/pieces/dispatch", content=str(tmp_path), headers=site.bearer
        ) as answer,
    ):
        received = answer.iter_text()
        assert next(received) == "one"
        for piece in ("two", "three"):
            (tmp_path / piece).touch()
            assert next(received) == piece


def test_a_large_upload_passes(site):
    work = os.urandom(MB) * (UPLOAD_BYTES // MB)
    with site.connect() as client:
        answer = client.post(f"{site.url}/api/instances/counts/dispatch", content=work, headers=site.bearer)
    assert (answer.status_code, answer.text) == (200, f"{len(work)} {zlib.crc32(work)}")


def test_messages_of_a_web_socket_pass_in_both_directions(site):
    address = f"{site.url}/api/instances/echoes/proxy/".replace("https:", "wss:", 1)
    messages: list[str | bytes] = ["one", "zwei \N{SNOWMAN}", b"\0\xff", "", os.urandom(MB)]
    with connect(address, ssl=site.trust(), additional_headers=site.bearer, open_timeout=DEADLINE_SECONDS) as socket:
        for message in messages:
            socket.send(message)
        assert [socket.recv(timeout=DEADLINE_SECONDS) for _ in messages] == messages
        socket.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=DEADLINE_SECONDS)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "as asked")


class Reader:
    """A reader of the stream that connects again with its cursor, as a browser does."""

    def __init__(self, site):
        self.site = site
        self.ids = []
        self.cursor = ""
        self.is_ended = False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        with self.site.connect() as client:
            while not self.is_ended:
                try:
                    self._read(client)
                except httpx.TransportError:
                    continue

    def _read(self, client):
        headers = self.site.bearer | ({"Last-Event-ID": self.cursor} if self.cursor else {})
        with client.stream("GET", f"{self.site.url}/events", headers=headers) as stream:
            type = ""
            for line in stream.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    type = value
                elif name == "id":
                    self.cursor = value
                    self.ids += [int(value)] if type == "a.b" else []
                if self.is_ended:
                    return


def test_no_event_is_lost_over_a_reload_and_a_rolling_restart(site):
    reader = Reader(site)
    wait_for(lambda: reader.cursor)
    recorded = []
    for number in range(EVENTS):
        recorded.append(record("a.b").id)
        if number == EVENTS // 4:
            site.proxy.reload()
        if number in (EVENTS // 2, EVENTS * 3 // 4):
            wait_for(lambda: reader.ids == recorded)
            site.servers[number // (EVENTS // 2 + 1)].restart()
    wait_for(lambda: len(reader.ids) >= EVENTS)
    reader.is_ended = True
    record("a.b")
    reader.thread.join(60)
    assert reader.ids[:EVENTS] == recorded
