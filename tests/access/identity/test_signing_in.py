"""Signing in: a session that a stranger has planted is of no use, and `next` leads to no other site."""

from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

COOKIE = settings.SESSION_COOKIE_NAME
FORMS = ["/accounts/login/", "/admin/login/"]
CREDENTIALS = {"username": "admin", "password": "right"}
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def admin():
    return User.objects.create_superuser("admin", password="right")


def sign_in(client, form, **more):
    answer = client.post(form, CREDENTIALS | more)
    assert answer.status_code == 302, answer.content
    return answer


@pytest.mark.parametrize("form", FORMS)
def test_a_session_key_that_a_stranger_has_chosen_is_not_used(form):
    planted = "a" * 32
    victim = Client()
    victim.cookies[COOKIE] = planted
    sign_in(victim, form)
    assert victim.cookies[COOKIE].value != planted
    stranger = Client()
    stranger.cookies[COOKIE] = planted
    assert stranger.get("/agents/").status_code == 302
    assert not Session.objects.filter(session_key=planted).exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_session_of_a_stranger_has_another_key_after_its_sign_in(form):
    """A stranger may have a real session of its own, and plant that."""
    victim = Client()
    session = victim.session
    session["planted"] = True
    session.save()
    before = session.session_key
    sign_in(victim, form)
    assert victim.cookies[COOKIE].value != before
    assert not Session.objects.filter(session_key=before).exists()


def test_the_session_of_another_user_is_not_taken_over(admin):
    client = Client()
    client.force_login(User.objects.create_user("other"))
    before = client.session.session_key
    sign_in(client, FORMS[0])
    assert client.session["_auth_user_id"] == str(admin.pk)
    assert not Session.objects.filter(session_key=before).exists()


def test_a_session_ends_with_its_sign_out():
    client = Client()
    sign_in(client, FORMS[0])
    key = client.cookies[COOKIE].value
    client.post("/accounts/logout/")
    stolen = Client()
    stolen.cookies[COOKIE] = key
    assert stolen.get("/agents/").status_code == 302


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example/",
    "\\\\evil.example/",
    "http:///evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "\x08//evil.example",
    " //evil.example",
    "/\t/evil.example",
    "//testserver@evil.example/",
    "https://testserver.evil.example/",
    "https://testserver:80@evil.example/",
    "",
    "\0",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", ELSEWHERE)
def test_next_leads_to_no_other_site(form, target):
    for client, data in ((Client(), {"next": target}), (Client(), {})):
        answer = sign_in(client, form if data else f"{form}?{urlencode({'next': target})}", **data)
        assert answer["Location"] in ("/agents/", "/accounts/profile/", "/admin/"), answer["Location"]


@pytest.mark.parametrize("form", FORMS)
def test_next_leads_to_a_page_of_ours(form):
    answer = sign_in(Client(), form, next="/agents/?failures=1")
    assert answer["Location"] == "/agents/?failures=1"


@pytest.mark.parametrize("target", ELSEWHERE)
def test_signing_out_leads_to_no_other_site(target):
    client = Client()
    sign_in(client, FORMS[0])
    answer = client.post("/accounts/logout/", {"next": target})
    assert answer.status_code in (200, 302)
    assert "evil" not in answer.get("Location", "")
    assert not answer.get("Location", "").startswith(("javascript:", "data:"))


def test_the_page_of_the_form_shows_no_markup_of_next():
    page = Client().get("/accounts/login/?next=%22%3E%3Cscript%3Ealert(1)%3C/script%3E").content.decode()
    assert "<script>alert" not in page
