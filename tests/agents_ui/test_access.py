import pytest
from django.test import Client

from events.log import record

PAGES = ["/agents/", "/agents/?instance=reviewer-default", "/agents/?before=7", "/agents/activity/1"]
FRAGMENTS = ["/agents/activity?after=0", "/agents/instances"]

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("address", PAGES)
def test_a_page_leads_the_signed_out_to_the_login_and_back(client: Client, address: str):
    response = client.get(address)
    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/login/?next=/agents/")


@pytest.mark.parametrize("address", FRAGMENTS)
def test_a_fragment_never_redirects_the_signed_out(client: Client, address: str):
    response = client.get(address)
    assert (response.status_code, response["Content-Type"]) == (401, "application/problem+json")
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("address", PAGES)
def test_a_page_tells_a_user_without_the_permission(stranger: Client, address: str):
    response = stranger.get(address)
    assert response.status_code == 403
    assert "You may not see this" in response.content.decode()


@pytest.mark.parametrize("address", FRAGMENTS)
def test_a_fragment_is_a_problem_without_the_permission(stranger: Client, address: str):
    response = stranger.get(address)
    assert (response.status_code, response["Content-Type"]) == (403, "application/problem+json")


@pytest.mark.parametrize("address", ["/agents/", *FRAGMENTS])
def test_a_program_may_see_what_people_see(client: Client, address: str):
    assert client.get(address, headers={"Authorization": "Bearer the-tests-token"}).status_code == 200


@pytest.mark.parametrize("address", ["/agents/", *FRAGMENTS])
def test_nothing_here_can_be_posted_to(signed_in: Client, address: str):
    assert signed_in.post(address).status_code == 405


def test_the_root_leads_to_the_agents(client: Client):
    assert client.get("/")["Location"] == "/agents/"


def test_the_audit_is_linked_for_staff_alone(signed_in: Client, admin_client: Client):
    assert "/admin/events/eventlog/" not in signed_in.get("/agents/").content.decode()
    assert "/admin/events/eventlog/" in admin_client.get("/agents/").content.decode()


def test_signing_out_is_a_post(signed_in: Client):
    assert (
        '<form class="account" method="post" action="/accounts/logout/">' in signed_in.get("/agents/").content.decode()
    )
    assert signed_in.post("/accounts/logout/")["Location"] == "/accounts/login/"
    assert signed_in.get("/agents/").status_code == 302


def test_pages_are_not_kept_by_the_browser(signed_in: Client):
    record("a.b")
    assert "no-store" in signed_in.get("/agents/")["Cache-Control"]
