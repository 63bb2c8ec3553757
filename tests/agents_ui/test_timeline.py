"""The activity of `GET /agents/`, as one without JavaScript sees it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from pytest_django.asserts import assertContains, assertNotContains

from agents_ui.timeline import PAGE_ROWS
from events.log import record
from events.models import EventLog

Rows = Callable[[str], list[int]]


def started(instance: str = "reviewer-default", **more: Any) -> int:
    return record("container.lazy_started", instance=instance, data={"latency_ms": 287}, **more).id


def stopped(instance: str = "designer-default") -> int:
    return record("container.lazy_stopped", instance=instance, data={"idle_seconds": 725}).id


def failed(instance: str = "broken-default", **data: object) -> int:
    data = {"error": "exited with code 1 before it was ready", "cause": "exited"} | data
    return record("container.lazy_start_failed", instance=instance, data=data).id


@pytest.mark.parametrize(
    ("make", "name", "rest"),
    [
        (started, "reviewer-default", "started in 287 ms"),
        (stopped, "designer-default", "stopped after 12 min idle"),
        (failed, "broken-default", "failed to start: exited with code 1 before it was ready"),
    ],
)
def test_each_event_is_a_sentence_whose_instance_leads_to_its_filter(signed_in: Client, make, name, rest):
    make()
    link = f'<a class="name" href="/agents/?instance={name}">{name}</a> {rest}'
    assertContains(signed_in.get("/agents/"), link)


def test_an_unknown_type_has_a_row_too(signed_in: Client):
    record("deploy.finished", instance="reviewer-default")
    record("night.began")
    page = signed_in.get("/agents/")
    assertContains(page, 'Deploy finished · <a class="name"')
    assertContains(page, '<p class="sentence">Night began')


def test_a_time_has_its_zone_and_leads_to_the_event(signed_in: Client):
    id = started(at=datetime(2026, 11, 23, 18, 55, 30, tzinfo=UTC))
    page = signed_in.get("/agents/")
    assertContains(page, f'href="/agents/activity/{id}"')
    assertContains(page, '<time datetime="2026-11-23T18:55:30+00:00">')
    assertContains(page, '<span class="copied">2026-11-23 </span>18:55:30 UTC<span')


def test_newest_first_under_the_heading_of_their_day(signed_in: Client, rows: Rows):
    days = [datetime(2026, 11, day, 12, tzinfo=UTC) for day in (22, 23, 23)]
    ids = [started(at=at) for at in days]
    assert rows("/agents/") == ids[::-1]
    page = signed_in.get("/agents/").content.decode()
    assert page.index("Monday 23 November 2026") < page.index("Sunday 22 November 2026")
    assert page.count("<h3>Monday") == 1


def test_a_failure_has_its_details(signed_in: Client):
    failed(exit_code=127, log_tail="Traceback\nKeyError: 'MODEL'")
    page = signed_in.get("/agents/")
    assertContains(page, "<dd>it exited before it was ready</dd>")
    assertContains(page, "<dd>127</dd>")
    assertContains(page, "Traceback\nKeyError: &#x27;MODEL&#x27;</pre>")


def test_an_exit_code_of_nought_is_said(signed_in: Client):
    failed(exit_code=0)
    assertContains(signed_in.get("/agents/"), "<dt>Exit code</dt><dd>0</dd>")


def test_a_cause_that_has_no_words_yet_is_shown_as_it_is(signed_in: Client):
    failed(cause="sunspots")
    assertContains(signed_in.get("/agents/"), "<dd>sunspots</dd>")


def test_only_the_instances_asked_for(rows: Rows):
    one, two, _ = started("a"), stopped("b"), started("c")
    assert rows("/agents/?instance=a&instance=b") == [two, one]


def test_only_the_types_asked_for(rows: Rows):
    one, two, _ = started(), stopped(), failed()
    assert rows("/agents/?type=container.lazy_started&type=container.lazy_stopped") == [two, one]


def test_only_failures(rows: Rows):
    started("a")
    failure, _ = failed("a"), failed("b")
    assert rows("/agents/?failures=1&instance=a") == [failure]
    assert rows("/agents/?failures=1&type=container.lazy_started") == []


def test_the_boxes_say_what_is_asked_for(signed_in: Client):
    record("deploy.finished", instance="a")
    page = signed_in.get("/agents/?instance=a&instance=never-heard-of")
    assertContains(page, '<input type="checkbox" name="instance" value="a" checked>')
    assertContains(page, '<input type="checkbox" name="instance" value="never-heard-of" checked>')
    assertContains(page, '<input type="checkbox" name="type" value="deploy.finished">')


@pytest.mark.parametrize("query", ["?instance=%00", "?instance=%ff", "?type=%ed%a0%80", "?instance=" + "x" * 2000])
def test_a_filter_that_can_match_nothing_shows_nothing(signed_in: Client, query: str):
    started()
    page = signed_in.get("/agents/" + query)
    assertContains(page, "Nothing matches this filter yet.")
    assertNotContains(page, "data-id")


def test_older_events_by_link_until_there_are_none(signed_in: Client, rows: Rows):
    ids = [started() for _ in range(PAGE_ROWS + 2)][::-1]
    stopped()
    query = "?instance=reviewer-default"
    assert rows("/agents/" + query) == ids[:PAGE_ROWS]
    link = f"/agents/{query}&amp;before={ids[PAGE_ROWS - 1]}"
    assertContains(signed_in.get("/agents/" + query), f'href="{link}"')
    assert rows(link.replace("&amp;", "&")) == ids[PAGE_ROWS:]
    assertContains(signed_in.get(link.replace("&amp;", "&")), '<p class="more" hidden>')


def test_where_the_log_was_pruned_the_last_page_says_so_and_no_other(signed_in: Client, transactional_db: None):
    ids = [started() for _ in range(PAGE_ROWS + 3)]
    note = "Older events have been pruned from the log."
    assertNotContains(signed_in.get(f"/agents/?before={ids[2]}"), note)
    EventLog.objects.prune(ids[0])
    assertNotContains(signed_in.get("/agents/"), note)
    assertContains(signed_in.get(f"/agents/?before={ids[3]}"), note)


def test_nothing_is_older_than_the_first_event(signed_in: Client):
    assertContains(signed_in.get("/agents/?before=1"), "There is nothing older.")


@pytest.mark.parametrize("before", ["", "x", "-1", "1.5", "٣", "9" * 30])
def test_a_cursor_that_makes_no_sense_is_a_400_page(signed_in: Client, before: str):
    assertContains(signed_in.get("/agents/", {"before": before}), "That address cannot be read", status_code=400)


def test_an_empty_log_says_what_will_appear(signed_in: Client):
    assertContains(signed_in.get("/agents/"), "No events yet.")
