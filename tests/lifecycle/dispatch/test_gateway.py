"""The gateway at a real agent: what passes, how it is framed, and when work is delivered again."""

import asyncio
import gzip

import pytest
from django.contrib.auth.models import Permission, User

from access.middleware import AsgiAccess
from lifecycle import assembly
from lifecycle.dispatch.gateway import Gateway
from lifecycle.exceptions import AgentBrokeOff
from lifecycle.models import Lease
from tests.lifecycle.dispatch.agent import answer as answer_of
from tests.lifecycle.dispatch.caller import CSRF, PROXY, TOKEN, URL, ask, call, post, scope_of
from tests.servers import wait_for

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]


@pytest.mark.parametrize("method", METHODS)
def test_any_method_passes_with_its_path_and_query(worker_agent, method):
    answer = ask(method, f"{PROXY}/v1//x%2Fy/%C3%A9?a=b&a=%20&c")
    assert (answer.status_code, answer.content) == (200, b"" if method == "HEAD" else b"done")
    (request,) = worker_agent.requests
    assert request.line == f"{method} /v1//x%2Fy/%C3%A9?a=b&a=%20&c HTTP/1.1"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
def test_a_body_passes_with_any_method(worker_agent, method):
    ask(method, f"{PROXY}/", b"\x00\xff")
    assert worker_agent.requests[0].body == b"\x00\xff"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_methods_about_connections_are_405(worker_agent, method):
    answer = ask(method, f"{PROXY}/")
    assert (answer.status_code, answer.headers["Dormouse-Error"]) == (405, "method_not_allowed")
    assert not worker_agent.requests


@pytest.mark.parametrize(
    "url", ["/api/instances/a%2Fproxy%2Fb/dispatch", "/api/instances/x%2Fdispatch", "/%61pi/instances/x/dispatch"]
)
def test_a_path_that_is_written_in_another_way_is_404(worker_agent, url):
    assert ask("POST", url, b"").status_code == 404
    assert ask("POST", url, b"", headers={}).status_code == 401


def test_the_query_of_a_dispatch_joins_that_of_the_label(worker_agent, sleeper):
    sleeper.labels["dormouse.dispatch-path"] = "/work?x=1"
    post(f"{URL}?y=2")
    assert worker_agent.requests[0].target == "/work?x=1&y=2"


def test_headers_pass_and_those_of_the_client_library_are_not_added(worker_agent):
    ask("GET", f"{PROXY}/", headers=TOKEN | {"Accept": "text/x", "User-Agent": "curl", "X-Thing": "é"})
    names = [name.lower() for name, _ in worker_agent.requests[0].fields]
    forwarding = ["forwarded", *(f"x-forwarded-{name}" for name in ("for", "proto", "host", "prefix"))]
    assert names == ["host", "accept", "user-agent", "x-thing", *forwarding]
    assert dict(worker_agent.requests[0].fields)["x-thing"] == "é".encode()
    assert worker_agent.requests[0].headers["host"] == f"127.0.0.1:{worker_agent.port}"


def test_a_compressed_body_and_answer_pass_as_they_are(worker_agent):
    packed = gzip.compress(b"work")
    worker_agent.answer = lambda request: answer_of(200, packed, Content_Encoding="gzip")
    answer = ask("POST", f"{PROXY}/", packed, headers=TOKEN | {"Content-Encoding": "gzip"})
    assert (answer.content, answer.headers["Content-Encoding"]) == (packed, "gzip")
    (request,) = worker_agent.requests
    assert (request.body, request.headers["content-encoding"]) == (packed, "gzip")


def test_a_location_is_seen_through_dormouse(worker_agent):
    worker_agent.answer = lambda request: answer_of(303, Location=f"http://127.0.0.1:{worker_agent.port}/there")
    assert post().headers["Location"] == f"{PROXY}/there"


def test_a_location_elsewhere_on_our_origin_is_502(worker_agent):
    worker_agent.answer = lambda request: answer_of(307, Location="http://localhost/api/instances/other/dispatch")
    answer = post()
    assert (answer.status_code, answer.headers["Dormouse-Error"]) == (502, "agent_unreachable")
    assert "Location leads to Dormouse itself" in answer.problem["detail"]


@pytest.mark.parametrize("broken", ["lifecycle.dispatch.headers.Hop.to_caller", "lifecycle.signals.dispatched.send"])
def test_an_unforeseen_error_before_the_answer_leaves_no_lease(worker_agent, monkeypatch, broken):
    """Else the agent would be kept awake until this process ends."""

    def fail(*arguments, **values):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(broken, fail)
    with pytest.raises(RuntimeError):
        post()
    wait_for(lambda: not Lease.objects.exists())


def test_an_answer_of_the_agent_can_be_told_from_one_of_dormouse(worker_agent):
    worker_agent.answer = lambda request: answer_of(404, Dormouse_Error="unknown", Dormouse_Run="99")
    answer = post()
    assert "Dormouse-Error" not in answer.headers
    assert answer.headers["Dormouse-Run"] == "1"


CODES = {"unauthenticated": ({}, URL), "unknown": (TOKEN, "/api/instances/nobody/dispatch")}


@pytest.mark.parametrize(("code", "request_of"), CODES.items())
def test_answers_of_dormouse_have_a_code(worker_agent, code, request_of):
    headers, url = request_of
    assert post(url, headers=headers).headers["Dormouse-Error"] == code


@pytest.fixture
def person(worker_agent):
    user = User.objects.create_user("anne")
    user.user_permissions.add(Permission.objects.get(codename="dispatch_instance"))
    return user


@pytest.mark.parametrize("method", METHODS)
def test_a_session_needs_the_csrf_header_for_every_method(worker_agent, person, method):
    refused = ask(method, f"{PROXY}/", headers={}, user=person)
    assert (refused.status_code, refused.headers["Dormouse-Error"]) == (403, "forbidden")
    assert not worker_agent.requests
    assert ask(method, f"{PROXY}/", headers={"X-CSRFToken": CSRF}, user=person).status_code == 200


def test_the_token_of_dormouse_leaves_authorization_to_the_agent(worker_agent):
    post(headers={"Dormouse-Token": "the-tests-token", "Authorization": "Bearer agents"})
    assert worker_agent.requests[0].headers["authorization"] == "Bearer agents"
    assert post(headers={"Dormouse-Token": "wrong"} | TOKEN).status_code == 401


def test_failed_work_names_its_trace(worker_agent, events):
    worker_agent.answer = lambda request: answer_of(500)
    post(headers=TOKEN | {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    worker_agent.failure()
    assert [data["trace_id"] for type, data in events if type == "work_failed"] == ["a" * 32]


# Framing


CONTRADICTIONS = {
    "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nGET /x H\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a length twice": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "no number": b"Content-Length: five\r\n\r\nhello",
    "a negative length": b"Content-Length: -5\r\n\r\nhello",
    "another coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no name": b": x\r\nContent-Length: 0\r\n\r\n",
    "a blank in a name": b"Content Length: 0\r\n\r\n",
    "a header without end": b"X: " + b"x" * 200_000 + b"\r\n\r\n",
    "headers without end": b"X: x\r\n" * 5_000 + b"\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("head", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_an_answer_whose_end_is_not_clear_is_502(worker_agent, head):
    worker_agent.answer = lambda request: b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + head
    answer = post()
    assert (answer.status_code, answer.headers["Dormouse-Error"]) == (502, "agent_unreachable"), answer
    assert worker_agent.failure()["status"] == 502


@pytest.mark.parametrize(
    "first_line", [b"HTTP/1.1 999 X", b"HTTP/1.1 101 X", b"HTTP/1.1 20 X", b"SSH-2.0-x", b"\x16\x03\x01"]
)
def test_an_answer_that_is_no_http_is_502(worker_agent, first_line):
    worker_agent.answer = lambda request: first_line + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    assert post().status_code == 502


def test_what_follows_an_answer_is_no_answer(worker_agent):
    """The rest of a connection is thrown away with it."""
    worker_agent.answer = lambda request: answer_of(200, b"hello") + answer_of(200, b"the next caller's")
    assert [post().content for _ in range(3)] == [b"hello"] * 3
    assert worker_agent.connections == 3


@pytest.mark.parametrize("body", [b"5\r\nhello\r\n", b"5\r\nhel"])
def test_broken_chunks_break_the_answer_off(worker_agent, body):
    head = b"HTTP/1.1 201 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    worker_agent.answer = lambda request: head + body
    with pytest.raises(AgentBrokeOff):
        post()
    assert worker_agent.failure()["status"] == 201


def test_chunks_without_a_size_are_502_if_nothing_was_sent_yet(worker_agent):
    head = b"HTTP/1.1 201 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    worker_agent.answer = lambda request: head + b"5\r\nhello\r\nx\r\n"
    assert post().status_code == 502


def test_interim_answers_and_trailers_do_not_pass(worker_agent):
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 2
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    worker_agent.answer = lambda request: interim + head + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    answer = post()
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert not {"Link", "Trailer", "X-Sum"} & set(answer.headers)


def test_an_agent_that_speaks_http_1_0_is_understood(worker_agent):
    worker_agent.answer = lambda request: b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nto the end"
    assert post().content == b"to the end"


# Delivery


def test_connections_are_kept(worker_agent):
    async def twice():
        for _ in range(2):
            await call(AsgiAccess(Gateway()), scope_of("POST", URL, TOKEN, b"work"), b"work")
        await assembly._dispatchers[0].close_connections()

    asyncio.run(twice())
    assert (len(worker_agent.requests), worker_agent.connections) == (2, 1)


def test_work_that_reached_the_agent_is_never_sent_again(worker_agent):
    worker_agent.answer = lambda request: None
    for method in ("POST", "PUT", "DELETE", "GET"):
        assert ask(method, f"{PROXY}/", b"work").status_code == 502
        assert len(worker_agent.requests) == 1
        worker_agent.requests.clear()


@pytest.mark.parametrize(
    ("method", "sent"), [("GET", 3), ("HEAD", 3), ("OPTIONS", 3), ("POST", 2), ("PUT", 2), ("DELETE", 2)]
)
def test_on_a_kept_connection_what_changes_nothing_is_sent_again(worker_agent, method, sent):
    """The first request is answered, and the connection is closed at the second one without an answer."""

    def answer(request):
        return None if len(worker_agent.requests) == 2 else answer_of()

    worker_agent.answer = answer

    async def twice():
        found = [await call(AsgiAccess(Gateway()), scope_of(method, f"{PROXY}/", TOKEN, None)) for _ in range(2)]
        await assembly._dispatchers[0].close_connections()
        return [one.status_code for one in found]

    assert asyncio.run(twice()) == [200, 200 if sent == 3 else 502]
    assert len(worker_agent.requests) == sent


def test_work_for_an_agent_that_has_just_ended_wakes_it_and_is_delivered_once(worker_agent, engine, sleeper):
    """It ends when the connection stands and before the look at it."""
    post()

    def look():
        sleeper.end(0)
        assert engine.before["inspect"] == []

    engine.before["inspect"] = [look]
    answer = post()
    assert (answer.status_code, answer.headers["Dormouse-Run"]) == (200, "2")
    assert "Server-Timing" in answer.headers
    assert len(worker_agent.requests) == 2


def test_work_does_not_go_to_another_one_that_has_its_address(worker_agent, engine, sleeper):
    """It was stopped and another one, which is no instance, has got its address."""
    post()
    sleeper.end(0)
    engine.boxes.clear()
    assert post().status_code == 503
    assert len(worker_agent.requests) == 1


def test_a_caller_that_sends_for_longer_than_the_timeout_is_waited_for(worker_agent, sleeper):
    """The time that the agent has begins with the last byte of the body."""
    sleeper.labels["dormouse.dispatch-timeout"] = "200ms"
    scope = scope_of("POST", URL, TOKEN | {"Content-Length": "10"}, None)
    answered = asyncio.run(call_slowly(scope, [b"hello", b"again"], 0.5))
    assert answered.status_code == 200
    assert worker_agent.requests[0].body == b"helloagain"


async def call_slowly(scope, parts, seconds):
    """Send a body with a pause before each part."""

    async def slowly(app_scope, receive, send):
        left = list(parts)

        async def receive_later():
            if not left:
                return await receive_for_ever()
            await asyncio.sleep(seconds)
            part = left.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(left)}

        async def receive_for_ever():
            await asyncio.get_running_loop().create_future()

        await AsgiAccess(Gateway())(app_scope, receive_later, send)

    try:
        return await call(slowly, scope)
    finally:
        await assembly._dispatchers[0].close_connections()
