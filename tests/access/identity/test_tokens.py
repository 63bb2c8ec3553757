"""Tokens: how they are made, sent, limited, revoked, and noted as used."""

import asyncio
import hashlib
import time
from datetime import timedelta
from io import BytesIO, StringIO

import httpx
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ValidationError
from django.core.handlers.asgi import ASGIRequest
from django.core.management import CommandError, call_command
from django.test import Client, RequestFactory
from django.utils import timezone

from access.identity import tokens
from access.identity.tokens import TokenUser, verify
from access.identity.users import Credentials, access_of, find_user, signature_of
from access.middleware import AsgiAccess
from access.models import Token
from access.permissions import DISPATCH, ROLES, VIEW_EVENTS
from events.log import record
from events.stream.consumer import EventStream
from events.stream.reader import Limits
from lifecycle.dispatch.gateway import Gateway
from lifecycle.models import Instance
from tests.events.stream.listening import listening
from tests.lifecycle.dispatch import caller
from tests.servers import DEADLINE_SECONDS, wait_for

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("uses_are_written_at_once")]


def issue(name="ci-bot", role="dispatcher", **more):
    return Token.objects.issue(name, role, **more)[1]


def run(*arguments):
    wrote = StringIO()
    call_command(*arguments, stdout=wrote)
    return wrote.getvalue()


# How they are made


def test_a_token_has_the_form_that_scanners_can_know_and_only_its_digest_is_kept():
    text = issue()
    assert tokens.TOKEN.fullmatch(text)
    row = Token.objects.values().get()
    assert row["digest"] == hashlib.sha256(text.encode()).hexdigest()
    assert text not in str(row)


@pytest.mark.parametrize("name", ["environment", "", " ci", "ci\n", "x" * 101, "ci\x00"])
def test_a_name_that_is_reserved_or_odd_is_refused(name):
    with pytest.raises(ValidationError):
        issue(name)
    assert not Token.objects.exists()


def test_a_name_is_never_given_out_again():
    issue("ci-bot")
    run("revoke_token", "ci-bot")
    with pytest.raises(CommandError, match="Name already exists"):
        call_command("create_token", "ci-bot", "--role", "viewer")


def test_the_command_prints_the_token_once():
    text = run("create_token", "ci-bot", "--role", "operator", "--expires", "90d", "--instances", "b, a").strip()
    assert verify(text) == TokenUser("ci-bot", "operator", frozenset({"a", "b"}))
    assert Token.objects.get().expires - timezone.now() > timedelta(days=89)
    assert text not in run("list_tokens")


@pytest.mark.parametrize(
    "arguments",
    [[], ["--role", "root"], ["--role", "viewer", "--expires", "soon"], ["--role", "viewer", "--instances=,"]],
)
def test_the_command_refuses_what_it_cannot_read(arguments):
    with pytest.raises(CommandError):
        call_command("create_token", "ci-bot", *arguments)
    assert not Token.objects.exists()


def test_the_list_says_of_each_what_it_may_and_when_it_was_used():
    verify(issue("used", instances=["reviewer-default"]))
    issue("old", "viewer", expires=timezone.now() - timedelta(seconds=1))
    issue("gone")
    run("revoke_token", "gone")
    lines = {line.split()[0]: line.split() for line in run("list_tokens").splitlines()}
    assert lines["used"][1:4] == ["dispatcher", "reviewer-default", "valid"]
    assert lines["used"][-2:] == f"{Token.objects.get(name='used').last_used:%Y-%m-%d %H:%M}".split()
    assert (lines["old"][3], lines["gone"][3]) == ("expired", "revoked")


@pytest.mark.parametrize("name", ["nobody", "environment"])
def test_revoking_what_is_not_there_is_an_error(name):
    with pytest.raises(CommandError):
        call_command("revoke_token", name)


# What lets a program in


@pytest.mark.parametrize("role", list(ROLES))
def test_a_token_has_the_rights_of_its_role_and_no_others(role):
    user = verify(issue(role=role))
    every = set().union(*ROLES.values()) | {"auth.change_user"}
    assert {permission for permission in every if user.has_perm(permission)} == ROLES[role]


@pytest.mark.parametrize(
    "text", ["", "dm_", "dm_" + "a" * 43, "dm_" + "a" * 42 + "é", "a" * 46, "\x00", "dm_" + "a" * 10_000]
)
def test_a_wrong_token_is_refused(text):
    issue()
    assert isinstance(verify(text), AnonymousUser)


def test_an_expired_and_a_revoked_token_are_refused():
    assert isinstance(verify(issue(expires=timezone.now() - timedelta(seconds=1))), AnonymousUser)
    text = issue("other")
    Token.objects.filter(name="other").revoke(timezone.now())
    assert isinstance(verify(text), AnonymousUser)


def test_a_token_that_expires_while_it_is_remembered_is_refused(monkeypatch):
    text = issue(expires=timezone.now() + timedelta(hours=1))
    assert verify(text) == TokenUser("ci-bot")
    later = timezone.now() + timedelta(hours=2)
    monkeypatch.setattr("access.identity.tokens.timezone.now", lambda: later)
    assert isinstance(verify(text), AnonymousUser)


def test_a_token_is_asked_for_again_after_half_a_second(monkeypatch, django_assert_num_queries):
    text, now = issue(), time.monotonic()
    monkeypatch.setattr("access.identity.tokens.time.monotonic", lambda: now)
    verify(text)
    Token.objects.update(revoked=timezone.now())
    with django_assert_num_queries(0):
        assert verify(text) == TokenUser("ci-bot")
    now += tokens.CACHE_SECONDS
    assert isinstance(verify(text), AnonymousUser)


def test_the_environments_token_is_a_dispatcher_and_costs_no_query(django_assert_num_queries):
    with django_assert_num_queries(0):
        user = verify("the-tests-token")
    assert (user.username, user.role) == ("environment", "dispatcher")
    assert signature_of(user) == {"by": "environment", "by_kind": "token"}


# How they are sent


def scope_of(headers):
    return {"headers": [(name.lower().encode(), value.encode()) for name, value in headers]}


@pytest.mark.parametrize(
    ("headers", "token", "session_key"),
    [
        ([], None, None),
        ([("Authorization", "Bearer x")], "x", None),
        ([("Authorization", "bearer  x ")], "x", None),
        ([("Authorization", "Basic x")], "", None),
        ([("Authorization", "")], "", None),
        ([("Dormouse-Token", " x ")], "x", None),
        ([("Dormouse-Token", "x"), ("Authorization", "Bearer y"), ("Cookie", "sessionid=s")], "x", "s"),
        ([("Dormouse-Token", ""), ("Authorization", "Bearer y")], "", None),
        ([("Dormouse-Token", "x"), ("Dormouse-Token", "y")], "x,y", None),
        ([("Authorization", "Bearer x"), ("Authorization", "Bearer y")], "x,Bearer y", None),
        ([("Cookie", "a=b"), ("Cookie", "sessionid=s")], None, None),
        ([("Cookie", "a=b; sessionid=s")], None, "s"),
        ([("Dormouse_Token", "x")], None, None),
    ],
)
def test_a_scope_and_its_request_have_the_same_credentials(headers, token, session_key):
    scope = scope_of(headers) | {"type": "http", "method": "GET", "path": "/", "query_string": b""}
    expected = Credentials(token, session_key)
    assert Credentials.of_scope(scope) == Credentials.of_request(ASGIRequest(scope, BytesIO())) == expected


def test_credentials_do_not_show_themselves():
    assert "secret" not in repr(Credentials("secret", "secret"))


@pytest.mark.django_db(transaction=True)
def test_access_without_a_session_or_token_is_none():
    assert asyncio.run(access_of(Credentials(None, None), VIEW_EVENTS)) == (None, False)
    assert asyncio.run(access_of(Credentials("the-tests-token", None), DISPATCH)) == (TokenUser(), True)


@pytest.mark.parametrize("headers", [{"Dormouse-Token": "wrong"}, {"Authorization": "Bearer wrong"}])
def test_a_wrong_token_is_not_made_good_by_a_session(headers, admin_client):
    assert admin_client.get("/api/instances", headers=headers).status_code == 401


def test_dormouse_token_wins_over_authorization_and_session(admin_client):
    headers = {"Dormouse-Token": issue(), "Authorization": "Bearer wrong"}
    assert admin_client.get("/api/instances", headers=headers).status_code == 200
    assert isinstance(find_user(Credentials.of_request(RequestFactory().get("/", headers=headers))), TokenUser)


def test_a_program_has_no_access_to_the_admin():
    assert Client().get("/admin/", headers={"Dormouse-Token": issue(role="operator")}).status_code == 302


# Certain instances alone


@pytest.fixture
def limited():
    for name in ("mine", "other"):
        Instance.objects.register(name, now=timezone.now(), idle_timeout=None)
    return {"Dormouse-Token": issue(instances=["mine"])}


def test_a_limited_token_sees_its_instances_alone(limited):
    shown = Client().get("/api/instances", headers=limited).json()["instances"]
    assert [instance["name"] for instance in shown] == ["mine"]
    assert Client().get("/api/instances/mine", headers=limited).status_code == 200


@pytest.mark.parametrize("name", ["other", "nobody"])
def test_a_limited_token_is_not_told_whether_another_instance_exists(limited, name):
    answer = Client().get(f"/api/instances/{name}", headers=limited)
    assert (answer.status_code, answer.json()["detail"]) == (403, f"This token is not for the instance {name!r}.")
    for path in ("dispatch", "proxy/x"):
        scope = caller.scope_of("POST", f"/api/instances/{name}/{path}", limited, b"work")
        received = async_to_sync(caller.call)(AsgiAccess(Gateway()), scope, b"work")
        assert (received.status_code, received.problem["detail"]) == (403, answer.json()["detail"])


@pytest.mark.parametrize("address", ["/agents/", "/agents/activity?after=0", "/agents/instances", "/agents/activity/1"])
def test_a_limited_token_gets_no_page_of_all_instances(limited, address):
    record("a.b", instance="other")
    assert Client().get(address, headers=limited).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_a_limited_token_reads_the_events_of_its_instances_alone(serve):
    server, headers = serve(), {"Dormouse-Token": issue(instances=["mine"])}
    for instance in ("other", "", "mine"):
        record("a.b", instance=instance)
    with listening(server, "?after=0", **headers) as messages:
        assert [next(messages).event for _ in range(2)] == ["stream-open", "a.b"]
    answer = httpx.get(f"{server.url}/events?instance=mine&instance=other", headers=headers)
    assert answer.status_code == 403


# The last use, and the end


def test_the_last_use_is_kept_to_the_minute():
    verify(issue())
    used = Token.objects.get().last_used
    assert used is not None
    assert (used.second, used.microsecond) == (0, 0)
    assert timezone.now() - used < timedelta(minutes=2)


def test_the_last_use_is_written_once_a_minute(monkeypatch, django_assert_num_queries):
    text, now, moment = issue(), time.monotonic(), timezone.now()
    monkeypatch.setattr("access.identity.tokens.time.monotonic", lambda: now)
    monkeypatch.setattr("access.identity.tokens.timezone.now", lambda: moment)
    with django_assert_num_queries(2):
        verify(text)
    now += 1
    with django_assert_num_queries(1):
        verify(text)
    now, moment = now + 60, moment + timedelta(minutes=1)
    with django_assert_num_queries(2):
        verify(text)


@pytest.mark.django_db(transaction=True)
def test_every_process_refuses_a_revoked_token_and_keeps_its_last_use(serve):
    servers, text = [serve(), serve()], issue()

    def statuses():
        headers = {"Authorization": f"Bearer {text}"}
        return {httpx.get(f"{server.url}/api/instances", headers=headers).status_code for server in servers}

    assert statuses() == {200}
    wait_for(lambda: Token.objects.get().last_used, what="the last use to be written")
    run("revoke_token", "ci-bot")
    wait_for(lambda: statuses() == {401}, what="the token to be refused")


def test_a_person_is_named_by_their_user_name():
    assert signature_of(User(username="alice")) == {"by": "alice", "by_kind": "user"}


@pytest.mark.django_db(transaction=True)
def test_a_revoked_token_ends_its_streams():
    headers = {"Dormouse-Token": issue()}
    app = AsgiAccess(EventStream.as_asgi(limits=Limits(access_seconds=0.01)))

    async def scenario():
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None) as client:
            answering = asyncio.create_task(client.get("/events", headers=headers))
            while not EventStream.slots.taken:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await Token.objects.aupdate(revoked=timezone.now())
            return await asyncio.wait_for(answering, DEADLINE_SECONDS)

    answer = asyncio.run(scenario())
    assert answer.status_code == 200
    assert '"reason": "access"' in answer.text
