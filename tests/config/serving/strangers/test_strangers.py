"""What anybody can send, and what they get for it."""

import resource
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import Client

from access.identity.tokens import TokenUser, verify_known

pytestmark = pytest.mark.both_servers

WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_a_websocket_is_refused_without_a_traceback(serve):
    server = serve()
    assert httpx.get(f"{server.url}/anything", headers=WEBSOCKET).status_code == 403
    assert "Traceback" not in server.log.read_text()


def test_a_name_with_nul_was_never_heard_of(db):
    answer = Client().get("/api/instances/a%00b", headers={"Authorization": "Bearer the-tests-token"})
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")


def test_health_is_told_without_tls_and_nothing_else_is(db, settings):
    settings.SECURE_SSL_REDIRECT = True
    assert Client().get("/healthz").status_code == 200
    assert Client().get("/agents/").status_code == 301


def test_health_is_told_whatever_address_was_asked_and_nothing_else_is(db):
    asked = {"host": "10.1.2.3:8000"}
    assert Client().get("/healthz", headers=asked).status_code == 200
    assert Client().get("/agents/", headers=asked).status_code == 400
    assert Client().post("/healthz", headers=asked).status_code == 405


@pytest.mark.parametrize(("sent", "known"), [("tökén", True), ("token", False)])
def test_a_token_may_have_any_character(settings, sent, known):
    settings.DORMOUSE_API_TOKEN = "tökén"
    as_received = sent.encode().decode("latin-1")
    assert isinstance(verify_known(as_received), TokenUser if known else AnonymousUser)


@pytest.mark.parametrize("address", ["/agents/", "/accounts/login/", "/admin/login/", "/nowhere", "/agents/activity/0"])
def test_every_page_says_what_it_may_load(db, address):
    policy = Client().get(address, follow=True)["Content-Security-Policy"]
    for rule in ("default-src 'self'", "object-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert rule in policy
    assert "unsafe" not in policy


def test_a_server_may_open_as_many_files_as_streams_need(serve):
    """Test it in a process whose limit is that of most shells, 1024, although the system allows more."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, most))
    try:
        server = serve()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    soft = next(line for line in limits.splitlines() if line.startswith("Max open files")).split()[3]
    assert int(soft) == min(5000 + 1024, most)
