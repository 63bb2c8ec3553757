from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from pytest_django.asserts import assertContains, assertNotContains

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


def test_a_start_is_compared_with_the_ten_before_it(signed_in: Client):
    for latency in range(100, 1300, 100):
        record("container.lazy_started", instance="a", data={"latency_ms": latency})
    record("container.lazy_started", instance="b", data={"latency_ms": 77})
    data = {"latency_ms": 4200, "start_ms": 300, "ready_ms": 3900}
    page = signed_in.get(f"/agents/activity/{record('container.lazy_started', instance='a', data=data).id}")
    assertContains(page, "<strong>This start: 4.2 s</strong> (engine 300 ms, until ready 3.9 s).")
    assertContains(page, "Before: 300 ms, 400 ms, 500 ms, 600 ms, 700 ms, 800 ms, 900 ms, 1 s, 1.1 s, 1.2 s.")


@pytest.mark.parametrize("latency", [None, "long", {}])
def test_a_start_whose_time_is_not_known_is_not_compared(signed_in: Client, latency: object):
    record("container.lazy_started", instance="a", data={"latency_ms": 100})
    id = record("container.lazy_started", instance="a", data={"latency_ms": latency}).id
    assertNotContains(signed_in.get(f"/agents/activity/{id}"), "This start")


def test_an_event_leads_to_its_neighbours(signed_in: Client):
    ids = [record("a.b", instance=name).id for name in ("a", "b", "a", "b", "a")]
    page = signed_in.get(f"/agents/activity/{ids[2]}")
    assertContains(page, f'<a href="/agents/activity/{ids[0]}">Previous of a</a>')
    assertContains(page, f'<a href="/agents/activity/{ids[4]}">Next of a</a>')
    assertContains(page, f'<a href="/agents/?before={ids[4] + 1}">All events around this one</a>')


def test_the_command_for_the_containers_output_is_there_to_copy(signed_in: Client, settings: Any):
    at = datetime(2026, 11, 23, 18, 55, 30, tzinfo=UTC)
    id = record("a.b", instance="$(x)", at=at).id
    assertNotContains(signed_in.get(f"/agents/activity/{id}"), "docker logs")
    settings.DORMOUSE_ENGINE = "docker"
    command = "--since 2026-11-23T18:50:30+00:00 --until 2026-11-23T18:56:30+00:00 &#x27;$(x)&#x27;"
    assertContains(signed_in.get(f"/agents/activity/{id}"), f"docker logs --timestamps {command}")
