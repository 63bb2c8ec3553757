"""Tokens are revoked, locks lifted and sessions ended in the admin."""

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from pytest_django.asserts import assertContains, assertNotContains

from access.identity.sessions import open_sessions
from access.models import Token

TOKENS, LOCKS, USERS = "/admin/access/token/", "/admin/axes/accessattempt/", "/admin/auth/user/"
pytestmark = pytest.mark.django_db


def act(client, address, action, *rows):
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(address, data, follow=True)


@pytest.fixture
def viewing_staff():
    user = User.objects.create_user("staff", is_staff=True)
    codenames = ["view_token", "view_accessattempt", "view_user"]
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def token():
    return Token.objects.issue("ci-bot", "dispatcher", instances=["reviewer-default"])[0]


def test_tokens_are_listed_without_their_digests(viewing_staff, token):
    for address in (TOKENS, f"{TOKENS}{token.pk}/change/"):
        page = viewing_staff.get(address)
        for shown in ("ci-bot", "reviewer-default", "valid"):
            assertContains(page, shown)
        assertNotContains(page, token.digest)


def test_a_token_is_revoked_with_the_name_of_who_did_it(admin_client, token):
    assertContains(act(admin_client, TOKENS, "revoke", token), "Tokens revoked: 1.")
    assert Token.objects.get().status(token.created) == "revoked"
    assertContains(act(admin_client, TOKENS, "revoke", token), "Tokens revoked: 0.")
    assertContains(admin_client.get("/admin/"), "ci-bot")


@pytest.mark.parametrize("page", ["add/", "{}/delete/"])
def test_a_token_is_neither_made_nor_deleted_there(admin_client, token, page):
    assert admin_client.post(TOKENS + page.format(token.pk), {"post": "yes", "name": "x"}).status_code == 403
    assert Token.objects.count() == 1


@pytest.mark.parametrize(("address", "action"), [(TOKENS, "revoke"), (LOCKS, "forget"), (USERS, "end_sessions")])
def test_staff_who_may_only_look_are_offered_no_action(viewing_staff, address, action, token):
    assertNotContains(viewing_staff.get(address), f'value="{action}"')


def fail(times=5):
    User.objects.create_user("alice", password="right")
    for _ in range(times):
        Client().post("/accounts/login/", {"username": "alice", "password": "wrong"})


def can_sign_in():
    answer = Client().post("/accounts/login/", {"username": "alice", "password": "right"})
    return answer.status_code == 302


def test_a_lock_is_seen_and_lifted(admin_client):
    fail()
    assert not can_sign_in()
    page = admin_client.get(LOCKS)
    for shown in ("alice", "127.0.0.1", "5"):
        assertContains(page, shown)
    act(admin_client, LOCKS, "forget", *AccessAttempt.objects.all())
    assert can_sign_in()


def test_a_lock_is_lifted_by_a_command():
    fail()
    call_command("axes_reset_username", "alice")
    assert can_sign_in()


def test_a_page_of_failed_logins_shows_nothing_else_that_was_sent(admin_client):
    fail()
    page = admin_client.get(f"{LOCKS}{AccessAttempt.objects.get().pk}/change/")
    assertContains(page, "alice")
    assertNotContains(page, "csrfmiddlewaretoken=")
    assertNotContains(page, "wrong")


def test_sessions_are_counted_and_ended_and_their_keys_are_shown_nowhere(admin_client):
    alice, bob = User.objects.create_user("alice"), User.objects.create_user("bob")
    clients = [Client(), Client(), Client()]
    for client, user in zip(clients, (alice, alice, bob), strict=True):
        client.force_login(user)
    page = admin_client.get(USERS)
    assertContains(page, '<td class="field-sessions">2</td>')
    for client in clients:
        assertNotContains(page, client.session.session_key)
    assertContains(act(admin_client, USERS, "end_sessions", alice), "Sessions ended: 2.")
    assert [client.get("/agents/").headers.get("Location", "")[:9] for client in clients] == ["/accounts"] * 2 + [""]
    assert str(alice.pk) not in open_sessions()
