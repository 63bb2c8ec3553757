"""The audit: a permitted user sees every event, and no user changes one."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django.asserts import assertContains, assertNotContains

from events.admin import ShortPaginator
from events.log import record
from events.models import EventLog

AUDIT = "/admin/events/eventlog/"


@pytest.fixture
def event(db: None) -> EventLog:
    return record("container.lazy_started", instance="reviewer-default", data={"latency_ms": 287})


@pytest.fixture
def superuser(admin_user: User) -> Client:
    """Return a client with CSRF checks, as browsers meet them."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    return client


def post(client: Client, address: str, data: dict[str, Any]) -> Any:
    token = client.get("/agents/").context["csrf_token"]
    return client.post(address, data | {"csrfmiddlewaretoken": str(token)})


def test_a_row_reads_as_a_sentence_with_seconds(admin_client: Client, event: EventLog):
    page = admin_client.get(AUDIT)
    assertContains(page, f"{event.at:%Y-%m-%d %H:%M:%S} UTC")
    assertContains(page, "reviewer-default started in 287 ms")


def test_newest_first(admin_client: Client, event: EventLog):
    record("deploy.finished", instance="later")
    page = admin_client.get(AUDIT).content.decode()
    assert page.index("Deploy finished · later") < page.index("reviewer-default started")


@pytest.mark.parametrize("words", ["Schlüssel", "no Schlüssel", "'no Schlüssel'", "🔑", "x\\y", '"x', "Bär schlüssel"])
def test_a_search_finds_text_as_it_is_written(admin_client: Client, event: EventLog, words: str):
    record("a.b", instance="Bär", data={"error": 'no Schlüssel for "x\\y" 🔑'})
    page = admin_client.get(AUDIT, {"q": words})
    assertContains(page, "A b · Bär")
    assertNotContains(page, "reviewer-default started")


@pytest.mark.parametrize(
    "query", ["?type=container.lazy_started", "?instance=reviewer-default", "?q=287", "?q=reviewer"]
)
def test_it_can_be_filtered_and_searched(admin_client: Client, event: EventLog, query: str):
    record("deploy.finished", instance="another")
    page = admin_client.get(AUDIT + query)
    assertContains(page, "reviewer-default started")
    assertNotContains(page, "Deploy finished · another")


def test_the_choices_are_what_there_is_and_what_has_a_name(admin_client: Client, event: EventLog):
    record("deploy.finished")
    page = admin_client.get(AUDIT)
    for choice in ("?type=deploy.finished", "?type=container.lazy_stopped", "?instance=reviewer-default"):
        assertContains(page, f'href="{choice}"')


def test_the_pages_are_not_counted_beyond_a_limit(event: EventLog, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ShortPaginator, "LIMIT", 2)
    for _ in range(3):
        record("a.b")
    assert ShortPaginator(EventLog.objects.all(), 1).count == 2


def test_an_event_is_shown_with_its_data_as_text(admin_client: Client, db: None):
    event = record("container.lazy_start_failed", instance="<b>", data={"error": "<script>", "log_tail": "\x1b[0m"})
    page = admin_client.get(f"{AUDIT}{event.id}/change/")
    assertContains(page, "&quot;error&quot;: &quot;&lt;script&gt;&quot;")
    assertNotContains(page, "<b>")
    assertNotContains(page, 'name="_save"')


def test_an_event_leads_to_its_page(admin_client: Client, event: EventLog):
    page = admin_client.get(f"/admin/events/eventlog/{event.pk}/change/")
    assertContains(page, f'<a href="/agents/activity/{event.pk}">', count=1)


def test_a_superuser_cannot_add(superuser: Client, event: EventLog):
    response = post(superuser, f"{AUDIT}add/", {"type": "forged", "data": "{}", "at_0": "2026-01-01", "at_1": "00:00"})
    assert response.status_code == 403
    assert EventLog.objects.count() == 1


def test_a_superuser_cannot_change(superuser: Client, event: EventLog):
    response = post(superuser, f"{AUDIT}{event.id}/change/", {"type": "forged", "instance": "x", "data": "{}"})
    assert response.status_code == 403
    assert EventLog.objects.get().type == "container.lazy_started"


def test_a_superuser_cannot_delete(superuser: Client, event: EventLog):
    assert post(superuser, f"{AUDIT}{event.id}/delete/", {"post": "yes"}).status_code == 403
    assert EventLog.objects.exists()


def test_a_superuser_has_no_action_that_deletes(superuser: Client, event: EventLog):
    assertNotContains(superuser.get(AUDIT), "delete_selected")
    post(superuser, AUDIT, {"action": "delete_selected", "_selected_action": event.id, "post": "yes"})
    assert EventLog.objects.exists()


def test_staff_need_the_permission(client: Client, event: EventLog):
    staff = User.objects.create_user("staff", is_staff=True)
    client.force_login(staff)
    assert client.get(AUDIT).status_code == 403
    staff.user_permissions.add(Permission.objects.get(codename="view_eventlog"))
    assertContains(client.get(AUDIT), "reviewer-default started")


def test_the_permission_alone_is_not_enough(client: Client, event: EventLog):
    user = User.objects.create_user("operator")
    user.user_permissions.add(Permission.objects.get(codename="view_eventlog"))
    client.force_login(user)
    assert client.get(AUDIT).status_code == 302


@pytest.mark.parametrize("query", ["?instance=%00", "?type=%00", "?instance=%ed%a0%80"])
def test_a_filter_that_no_text_can_match_finds_nothing(superuser: Client, event: EventLog, query: str):
    page = superuser.get(AUDIT + query)
    assertContains(page, "0 event log")
