"""Who may read /events."""

import asyncio

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client

from events.log import record
from events.stream.reader import Limits
from tests.events.stream.listening import Listener, connected, listening
from tests.servers import wait_for

pytestmark = pytest.mark.both_servers


def cookie(user):
    client = Client()
    client.force_login(user)
    return {"Cookie": f"{settings.SESSION_COOKIE_NAME}={client.session.session_key}"}


@pytest.fixture
def viewer(transactional_db):
    user = User.objects.create_user("viewer")
    user.user_permissions.add(Permission.objects.get(codename="view_eventlog"))
    return user


def ask(server, **headers):
    return httpx.get(f"{server.url}/events", headers=headers)


def opens(server):
    with connected(server) as source:
        return source.response.status_code == 200


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer", "Basic YTpi", "the-tests-token"])
def test_a_request_without_a_user_is_asked_to_sign_in(server, authorization):
    answer = ask(server, **({"Authorization": authorization} if authorization is not None else {}))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 401


def test_an_empty_token_lets_no_program_in(serve):
    server = serve(DORMOUSE_API_TOKEN="")
    assert {ask(server, Authorization=f"Bearer{token}").status_code for token in ("", " the-tests-token")} == {401}


def test_a_person_who_may_view_events_reads(server, viewer):
    with httpx.stream("GET", f"{server.url}/events", headers=cookie(viewer)) as answer:
        assert answer.status_code == 200


def test_a_person_who_may_not_is_told_so(server, transactional_db):
    answer = ask(server, **cookie(User.objects.create_user("nobody")))
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert "events.view_eventlog" in answer.json()["detail"]


def test_a_wrong_token_is_not_made_good_by_a_session(server, viewer):
    assert ask(server, Authorization="Bearer wrong", **cookie(viewer)).status_code == 401


def test_a_foreign_host_is_refused(server):
    assert ask(server, Host="evil.example", **server.bearer).status_code == 400


def test_a_person_has_only_so_many_streams_and_a_program_as_many_as_there_are(serve, viewer):
    server = serve(DORMOUSE_MAX_STREAMS_PER_USER="1")
    with httpx.stream("GET", f"{server.url}/events", headers=cookie(viewer)) as answer:
        assert answer.status_code == 200
        refused = ask(server, **cookie(viewer))
        with connected(server), connected(server) as other:
            assert other.response.status_code == 200
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["content-type"] == "application/problem+json"


def test_a_server_has_only_so_many_streams_and_takes_the_next_when_one_ends(serve):
    server = serve(DORMOUSE_MAX_STREAMS="1")
    with listening(server) as messages:
        next(messages)
        refused = ask(server, **server.bearer)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    wait_for(lambda: opens(server), what="the server to see the hang-up")


@pytest.mark.django_db(transaction=True)
def test_access_that_ends_ends_the_stream():
    latest = record("a.b").id

    async def scenario():
        async with Listener(limits=Limits(access_seconds=0.01)) as listener:
            await listener.next()
            listener.permitted = False
            goodbye = await listener.next()
            assert (goodbye.event, goodbye.id) == ("stream-end", str(latest))
            assert goodbye.json() == {"cursor": latest, "reason": "access"}
            await listener.closed()
            assert listener.ended

    asyncio.run(scenario())


@pytest.mark.django_db(transaction=True)
def test_access_that_holds_keeps_the_stream():
    async def scenario():
        limits = Limits(access_seconds=0.001, keep_alive_seconds=0.01)
        async with Listener(limits=limits) as listener:
            assert [message.event for message in await listener.take(5)] == ["stream-open", *["keep-alive"] * 4]

    asyncio.run(scenario())
