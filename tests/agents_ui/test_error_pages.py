"""The login and the pages for errors look like the rest."""

import pytest
from django.http import HttpRequest
from django.template.loader import get_template
from django.test import Client
from django.views.defaults import server_error
from pytest_django.asserts import assertContains


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
