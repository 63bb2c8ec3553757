import pytest
from django.test import Client
from pytest_django.asserts import assertContains

from events.log import record


def test_an_event_has_a_page_with_all_of_it(signed_in: Client):
    data = {"error": "e" * 3000, "cause": "oom", "log_tail": "line\n" * 2000}
    id = record("container.lazy_start_failed", instance="broken-default", data=data).id
    page = signed_in.get(f"/agents/activity/{id}")
    assertContains(page, f"<title>Event {id} · Dormouse</title>", html=True)
    assertContains(page, "<dd>it ran out of memory</dd>")
    assertContains(page, "e" * 3000)
    assertContains(page, "line\n" * 2000)


def test_its_data_are_shown_as_json(signed_in: Client):
    id = record("deploy.finished", data={"version": "1.4.2", "by": "José"}).id
    assertContains(signed_in.get(f"/agents/activity/{id}"), "&quot;by&quot;: &quot;José&quot;")


@pytest.mark.parametrize("id", ["4711", "0", "9" * 30, "x", "-1"])
def test_no_such_event_is_a_404_page(signed_in: Client, id: str):
    assertContains(signed_in.get(f"/agents/activity/{id}"), "There is nothing here", status_code=404)
