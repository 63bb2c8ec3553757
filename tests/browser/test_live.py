"""What happens is on the page at once, without a reload."""

from collections.abc import Callable

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from events.log import record
from lifecycle.models import Instance
from tests.servers import Server

SignIn = Callable[..., Page]

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


def is_live(page: Page) -> None:
    expect(page.locator("#connection")).to_have_text("Live")


@pytest.mark.parametrize(("type", "instance", "data", "sentence"), SENTENCES)
def test_each_transition_appears_as_its_sentence(server: Server, sign_in: SignIn, type, instance, data, sentence):
    page = sign_in(server)
    is_live(page)
    record(f"container.{type}", instance=instance, data=data)
    expect(page.locator(".row .sentence")).to_have_text(sentence)


def test_a_type_that_nobody_named_beforehand_appears(server: Server, sign_in: SignIn):
    page = sign_in(server)
    is_live(page)
    record("deploy.finished", instance="reviewer-default", data={"version": "1.4.2"})
    expect(page.locator(".row .sentence")).to_have_text("Deploy finished · reviewer-default")
    expect(page.get_by_role("status")).to_have_text("Deploy finished · reviewer-default")


def test_a_live_row_is_the_row_of_a_reloaded_page(server: Server, sign_in: SignIn):
    page = sign_in(server)
    is_live(page)
    for type, instance, data, _ in SENTENCES:
        record(f"container.{type}", instance=instance, data=data)
    rows = page.locator(".row")
    expect(rows).to_have_count(3)
    live = rows.evaluate_all("rows => rows.map(row => row.outerHTML)")
    page.reload()
    assert rows.evaluate_all("rows => rows.map(row => row.outerHTML)") == live
    expect(page.locator(".day")).to_have_count(1)


def test_a_burst_arrives_whole_once_and_in_order(server: Server, sign_in: SignIn):
    page = sign_in(server)
    is_live(page)
    ids = [record("a.b", instance=f"agent-{number}").id for number in range(250)]
    rows = page.locator(".row")
    expect(rows).to_have_count(250)
    assert rows.evaluate_all("rows => rows.map(row => +row.dataset.id)") == ids[::-1]


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
    page.get_by_text("Details").click()
    expect(page.locator(".row pre").first).to_have_text(text)
    assert page.locator(".row :is(script, img)").count() == 0
