"""When a session ends: for pages, and for streams, which ask `access_of` again and again."""

import asyncio

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from access.identity.users import Credentials, access_of
from access.permissions import VIEW_EVENTS

PASSWORD = "correct horse battery staple"


@pytest.fixture
def alice(transactional_db):
    user = User.objects.create_user("alice", password=PASSWORD, is_staff=True)
    user.groups.add(Group.objects.get(name="Viewers"))
    return user


@pytest.fixture
def sign_in(alice):
    """Signs alice in, in a browser of her own."""

    def sign() -> Client:
        client = Client()
        client.get("/accounts/login/")
        assert client.post("/accounts/login/", {"username": "alice", "password": PASSWORD}).status_code == 302
        return client

    return sign


def key_of(client):
    return client.cookies["sessionid"].value


def may_look(key):
    """Return whether a stream that was opened with this session goes on."""
    _, permitted = asyncio.run(access_of(Credentials(None, key), VIEW_EVENTS))
    return permitted


def test_signing_in_again_makes_a_new_key_and_ends_the_old_one(sign_in):
    client = sign_in()
    first = key_of(client)
    client.post("/accounts/login/", {"username": "alice", "password": PASSWORD})
    assert key_of(client) != first
    assert (may_look(first), may_look(key_of(client))) == (False, True)


def test_a_key_that_was_planted_before_the_login_is_not_used(alice):
    planter = Client()
    planter.session.save()
    client = Client()
    client.cookies["sessionid"] = str(planter.session.session_key)
    client.post("/accounts/login/", {"username": "alice", "password": PASSWORD})
    assert key_of(client) != planter.session.session_key
    assert not may_look(planter.session.session_key)


def test_signing_out_ends_it(sign_in):
    client = sign_in()
    key = key_of(client)
    client.post("/accounts/logout/")
    assert not may_look(key)


def test_a_new_password_ends_every_other_session(sign_in, alice):
    here, elsewhere = sign_in(), sign_in()
    new = "another horse battery staple"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert here.post("/admin/password_change/", form).status_code == 302
    assert (may_look(key_of(elsewhere)), may_look(key_of(here))) == (False, True)
    assert elsewhere.get("/agents/").status_code == 302


def test_rights_that_are_taken_away_end_its_streams(sign_in, alice):
    client = sign_in()
    alice.groups.clear()
    assert not may_look(key_of(client))
    assert client.get("/agents/").status_code == 403


def test_a_user_who_is_not_active_any_more_is_signed_out(sign_in, alice):
    client = sign_in()
    User.objects.update(is_active=False)
    assert not may_look(key_of(client))
