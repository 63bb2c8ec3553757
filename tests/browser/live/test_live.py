"""What happens is on the page at once, without a reload."""

from datetime import timedelta
from typing import Any, cast

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from events.log import record
from lifecycle.models import Instance
from tests.browser.seeing import SignIn, is_live, rows, shows
from tests.servers import Server, wait_for

SENTENCES = [
    ("lazy_started", "reviewer-default", {"latency_ms": 287}, "reviewer-default started in 287 ms"),
    ("lazy_stopped", "designer-default", {"idle_seconds": 725}, "designer-default stopped after 12 min idle"),
    (
        "lazy_start_failed",
        "broken-default",
        {"error": "exited with code 1 before it was ready", "log_tail": "Traceback"},
        "broken-default failed to start: exited with code 1 before it was ready",
    ),
]


@pytest.mark.parametrize(("type", "instance", "data", "sentence"), SENTENCES)
def test_each_transition_appears_as_its_sentence(server: Server, sign_in: SignIn, type, instance, data, sentence):
    page = sign_in(server)
    is_live(page)
    record(f"container.{type}", instance=instance, data=data)
    expect(page.locator(".row .sentence")).to_have_text(sentence)


def test_a_new_type_appears_without_being_declared(server: Server, sign_in: SignIn):
    page = sign_in(server)
    is_live(page)
    record("deploy.finished", instance="reviewer-default", data={"version": "1.4.2"})
    expect(page.locator(".row .sentence")).to_have_text("Deploy finished · reviewer-default")
    expect(page.get_by_role("status")).to_have_text("Deploy finished · reviewer-default")


@pytest.mark.parametrize("query", ["", "?failures=1", "?instance=designer-default&instance=broken-default"])
def test_the_first_page_of_a_live_page_is_that_of_a_reloaded_one(server: Server, sign_in: SignIn, query: str):
    yesterday = timezone.now() - timedelta(days=1)
    record("container.lazy_start_failed", instance="broken-default", data={"error": "no"}, at=yesterday)
    page = sign_in(server, f"/agents/{query}")
    is_live(page)
    for number in range(60):
        type, instance, data, _ = SENTENCES[number % 3]
        last = record(f"container.{type}", instance=instance, data=cast(Any, data)).id
    expect(page.locator(f".row[data-id='{last}']")).to_be_visible()
    wait_for(lambda: page.evaluate("document.querySelectorAll('.row').length > 20"))
    live = rows(page)
    page.reload()
    reloaded = rows(page)
    assert len(reloaded) > 20
    assert [row for row in reloaded if row in live] == reloaded
    assert live[: len(reloaded)] == reloaded


def test_a_burst_arrives_whole_once_and_in_order(server: Server, sign_in: SignIn):
    page = sign_in(server)
    is_live(page)
    shows(page, [record("a.b", instance=f"agent-{number}").id for number in range(250)])


def test_live_rows_obey_the_filter(server: Server, sign_in: SignIn):
    page = sign_in(server, "/agents/?instance=mine")
    is_live(page)
    record("a.b", instance="other")
    record("a.c", instance="mine")
    expect(page.locator(".row .sentence")).to_have_text(["A c · mine"])


def test_the_empty_page_goes_live_at_the_first_event(server: Server, sign_in: SignIn):
    page = sign_in(server)
    expect(page.get_by_text("No events yet.")).to_be_visible()
    is_live(page)
    record("a.b")
    expect(page.get_by_text("No events yet.")).to_have_count(0)


def test_instances_are_fetched_anew_at_an_event_and_the_focus_stays(server: Server, sign_in: SignIn):
    Instance.objects.create(name="reviewer-default", since=timezone.now())
    page = sign_in(server)
    is_live(page)
    link = page.locator("#instances").get_by_role("link", name="reviewer-default")
    link.focus()
    Instance.objects.update(state="ready")
    record("container.lazy_started", instance="reviewer-default", data={"latency_ms": 287})
    expect(page.locator(".card .state")).to_have_text("ready")
    expect(link).to_be_focused()


def test_what_makes_no_event_is_seen_all_the_same(server: Server, sign_in: SignIn):
    page = sign_in(server, "/agents/")
    is_live(page)
    Instance.objects.create(name="reviewer-default", since=timezone.now())
    expect(page.locator(".card h3")).to_have_text("reviewer-default")


def test_markup_in_a_live_row_is_text(server: Server, sign_in: SignIn):
    page = sign_in(server)
    is_live(page)
    text = "<script>document.title = 'x'</script><img src=x onerror=alert(1)>"
    record("container.lazy_start_failed", instance="a", data={"error": text, "log_tail": text})
    expect(page.locator(".row .sentence")).to_have_text(f"a failed to start: {text}")
    page.locator(".row summary").click()
    expect(page.locator(".row pre").first).to_have_text(text)
    assert page.locator(".row :is(script, img)").count() == 0
