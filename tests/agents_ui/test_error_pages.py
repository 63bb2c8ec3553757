"""The login and the pages for errors look like the rest."""

import pytest
from django.http import HttpRequest
from django.template.loader import get_template
from django.test import Client
from django.views.defaults import server_error
from pytest_django.asserts import assertContains, assertNotContains


def test_the_login_is_ours(client: Client, db: None):
    page = client.get("/accounts/login/?next=/agents/%3Ffailures=1")
    assertContains(page, "agents_ui/agents.css")
    assertContains(page, '<input type="hidden" name="next" value="/agents/?failures=1">')


def test_a_wrong_password_is_said(client: Client, db: None):
    page = client.post("/accounts/login/", {"username": "admin", "password": "wrong"})
    assertContains(page, "Please enter a correct username and password.")


@pytest.mark.parametrize("name", ["400.html", "403.html", "403_csrf.html", "404.html", "500.html", "503.html"])
def test_an_error_page_needs_no_request(name: str):
    assert "agents_ui/agents.css" in get_template(name).render()


def test_a_500_says_where_the_reason_is():
    assert "log of the web process" in server_error(HttpRequest()).content.decode()


def test_an_unknown_address_is_our_404(client: Client, db: None):
    assertContains(client.get("/nowhere"), "There is nothing here", status_code=404)


FORM = {"username": "admin", "password": "admin"}


def test_a_form_through_a_proxy_that_drops_the_port_names_the_setting(db: None):
    client = Client(enforce_csrf_checks=True)
    form = FORM | {"csrfmiddlewaretoken": client.get("/accounts/login/").context["csrf_token"]}
    page = client.post("/accounts/login/", form, headers={"Origin": "https://localhost:8443", "Host": "localhost"})
    assertContains(page, "DJANGO_CSRF_TRUSTED_ORIGINS=https://localhost:8443", status_code=403)
    assertNotContains(page, "cookie", status_code=403)


def test_a_form_through_a_proxy_that_ends_tls_names_the_setting(db: None):
    client = Client(enforce_csrf_checks=True)
    form = FORM | {"csrfmiddlewaretoken": client.get("/accounts/login/").context["csrf_token"]}
    page = client.post("/accounts/login/", form, headers={"Origin": "https://localhost", "Host": "localhost"})
    assertContains(page, "DJANGO_HTTPS=true", status_code=403)
    assertNotContains(page, "DJANGO_CSRF_TRUSTED_ORIGINS", status_code=403)


@pytest.mark.parametrize(
    ("host", "named"), [("a.example:8443", "a.example"), ("a_b", "a_b"), ("a:b<i>", "a:b&lt;i&gt;")]
)
def test_a_host_that_is_not_allowed_names_the_setting(client: Client, host: str, named: str):
    page = client.get("/agents/", headers={"Host": host})
    assertContains(page, f"<code>{named}</code>", status_code=400)
    assertContains(page, "DJANGO_ALLOWED_HOSTS", status_code=400)


def test_an_address_that_cannot_be_read_names_no_setting(admin_client: Client):
    page = admin_client.get("/agents/?before=x")
    assertContains(page, "A part of it may have been lost", status_code=400)
    assertNotContains(page, "DJANGO_ALLOWED_HOSTS", status_code=400)


def test_a_form_without_a_cookie_says_so(db: None):
    page = Client(enforce_csrf_checks=True).post("/accounts/login/", FORM)
    assertContains(page, "Your browser sent no cookie", status_code=403)


def test_a_form_of_an_earlier_sign_in_says_so(db: None):
    client = Client(enforce_csrf_checks=True)
    client.get("/accounts/login/")
    page = client.post("/accounts/login/", FORM | {"csrfmiddlewaretoken": "x" * 64})
    assertContains(page, "It was made for an earlier sign-in", status_code=403)
