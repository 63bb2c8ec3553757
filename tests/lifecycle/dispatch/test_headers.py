"""Which headers pass in each direction, and what becomes of a Location."""

from typing import Any

import pytest

from lifecycle.dispatch.headers import Hop, LeadsElsewhere

AGENT = "http://172.17.0.2:9001/v1/files?x=1"
PREFIX = "/api/instances/reviewer-default/proxy"


def hop(**values: Any) -> Hop:
    known = {"client": "192.0.2.7", "is_trusted": False, "scheme": "https", "host": "dormouse.example"}
    known |= {"prefix": PREFIX, "passes_authorization": False}
    return Hop(**(known | values))  # type: ignore[arg-type]


def to_agent(*headers, **values):
    return hop(**values).to_agent([tuple(header.encode().split(b": ", 1)) for header in headers])


FORWARDING = [
    ("Forwarded", 'for=192.0.2.7;proto=https;host="dormouse.example"'),
    ("X-Forwarded-For", "192.0.2.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "dormouse.example"),
    ("X-Forwarded-Prefix", PREFIX),
]


@pytest.mark.parametrize(
    "header",
    [
        "accept: text/event-stream",
        "accept-encoding: gzip",
        "content-encoding: gzip",
        "idempotency-key: 7",
        "mcp-session-id: x",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "range: bytes=0-1",
        "if-none-match: x",
        "x-thing: a, b",
        "x-empty: ",
    ],
)
def test_a_header_passes_to_the_agent(header):
    assert to_agent(header) == [tuple(header.split(": ", 1)), *FORWARDING]


@pytest.mark.parametrize(
    "header",
    [
        "authorization: Bearer x",
        "cookie: sessionid=x",
        "dormouse-token: x",
        "x-csrftoken: x",
        "expect: 100-continue",
        "host: x",
        "x_thing: x",
        "connection: close",
        "keep-alive: timeout=5",
        "te: trailers",
        "trailer: x",
        "transfer-encoding: chunked",
        "upgrade: h2c",
        "proxy-authorization: x",
        "forwarded: for=10.0.0.1",
        "x-forwarded-for: 10.0.0.1",
        "x-forwarded-port: 1",
        "x-forwarded-prefix: /admin",
    ],
)
def test_a_header_does_not_pass_to_the_agent(header):
    assert to_agent(header) == FORWARDING


def test_what_connection_names_does_not_pass():
    assert to_agent("connection: close, X-Thing ,content-length", "x-thing: 1", "content-length: 5") == FORWARDING


def test_connection_cannot_take_away_what_dormouse_says():
    assert to_agent("connection: x-forwarded-for, forwarded") == FORWARDING


def test_a_header_that_came_twice_passes_twice():
    assert to_agent("x-thing: a", "x-thing: b")[:2] == [("x-thing", "a"), ("x-thing", "b")]


def test_authorization_passes_if_the_token_came_otherwise():
    assert to_agent("authorization: Bearer agents", passes_authorization=True)[0] == ("authorization", "Bearer agents")


def test_a_trusted_proxy_is_believed():
    given = ["x-forwarded-for: 198.51.100.1", "forwarded: for=198.51.100.1", "x-forwarded-prefix: /team/"]
    found = dict(to_agent(*given, is_trusted=True))
    assert found["X-Forwarded-For"] == "198.51.100.1, 192.0.2.7"
    assert found["Forwarded"] == f"for=198.51.100.1, {FORWARDING[0][1]}"
    assert found["X-Forwarded-Prefix"] == f"/team{PREFIX}"


def test_an_address_of_ipv6_is_written_as_the_standard_says():
    assert dict(to_agent(client="2001:db8::1"))["Forwarded"].startswith('for="[2001:db8::1]";')


def to_caller(*headers, **values):
    raw = [tuple(header.encode().split(b": ", 1)) for header in headers]
    return [(name.decode(), value.decode()) for name, value in hop(**values).to_caller(raw, AGENT)]


ALWAYS = [
    ("content-security-policy", "default-src 'none'; sandbox"),
    ("cache-control", "no-store"),
    ("x-accel-buffering", "no"),
    ("x-content-type-options", "nosniff"),
]


@pytest.mark.parametrize(
    "header", ["etag: x", "mcp-session-id: x", "content-encoding: br", "content-length: 4", "vary: x"]
)
def test_a_header_passes_to_the_caller(header):
    assert to_caller(header) == [tuple(header.split(": ")), *ALWAYS]


@pytest.mark.parametrize(
    "header",
    [
        "Set-Cookie: sessionid=x",
        "set-cookie2: x",
        "Dormouse-Error: unknown",
        "dormouse-run: 9",
        "X-Accel-Redirect: /secret",
        "x-sendfile: /etc/passwd",
        "clear-site-data: *",
        "alt-svc: x",
        "strict-transport-security: max-age=1",
        "access-control-allow-origin: *",
        "refresh: 0; url=/admin/",
        "content-security-policy: default-src *",
        "cache-control: public",
        "x-content-type-options: x",
        "transfer-encoding: chunked",
        "connection: close",
        "keep-alive: x",
    ],
)
def test_a_header_does_not_pass_to_the_caller(header):
    assert to_caller(header) == ALWAYS


def test_what_the_agents_connection_names_does_not_pass():
    assert to_caller("Connection: ETag", "etag: x") == ALWAYS


def located(value, host="dormouse.example"):
    return to_caller(f"Location: {value}", host=host)[0][1]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("/v1/x", f"{PREFIX}/v1/x"),
        ("y", f"{PREFIX}/v1/y"),
        ("../../../y", f"{PREFIX}/y"),
        ("?page=2", f"{PREFIX}/v1/files?page=2"),
        ("http://172.17.0.2:9001/x?y=1#z", f"{PREFIX}/x?y=1#z"),
        ("//172.17.0.2:9001/x", f"{PREFIX}/x"),
        ("http://172.17.0.2:9001/../../admin/", f"{PREFIX}/admin/"),
        ("/%2e%2e/%2E./admin/", f"{PREFIX}/admin/"),
        ("/a/..\\..\\..\\admin", f"{PREFIX}/admin"),
        ("", f"{PREFIX}/v1/files?x=1"),
        (f"https://dormouse.example{PREFIX}/x", f"{PREFIX}/x"),
        ("https://elsewhere.example/admin/", "https://elsewhere.example/admin/"),
        ("http://dormouse.example:8080/", "http://dormouse.example:8080/"),
        ("//elsewhere.example/x", "//elsewhere.example/x"),
        ("mailto:someone@example.org", "mailto:someone@example.org"),
    ],
)
def test_a_location_is_seen_through_dormouse(value, seen):
    assert located(value) == seen


@pytest.mark.parametrize(
    "value",
    [
        "https://dormouse.example/admin/",
        "http://dormouse.example/admin/",
        "//dormouse.example/admin/",
        "//DORMOUSE.example./admin/",
        "//%64ormouse.example/",
        "https://user@dormouse.example/",
        "\\\\dormouse.example\\admin",
        "//dor\tmouse.example/",
        f"https://dormouse.example{PREFIX}/../../other/dispatch",
        f"https://dormouse.example{PREFIX}/%2e%2e/%2e%2e/other/dispatch",
        f"https://dormouse.example{PREFIX}",
        "https:///admin",
        "http://[::1",
        "http://dormouse.example:99999999/",
        "http://dormouse%00.example/",
    ],
)
def test_a_location_elsewhere_on_our_origin_is_refused(value):
    with pytest.raises(LeadsElsewhere):
        located(value)


def test_a_location_whose_host_is_no_utf_8_is_refused():
    with pytest.raises(LeadsElsewhere):
        hop().to_caller([(b"location", b"http://dormouse\x80.example/")], AGENT)


def test_a_caller_whose_host_has_an_impossible_port_gets_its_location():
    assert located("http://elsewhere.example/", host="dormouse.example:99999") == "http://elsewhere.example/"


@pytest.mark.parametrize("value", ["http://127.0.0.1:8000/", "http://127.1:8000/", "http://0x7f000001:8000/"])
def test_our_address_is_ours_in_any_notation(value):
    with pytest.raises(LeadsElsewhere):
        located(value, host="127.0.0.1:8000")
