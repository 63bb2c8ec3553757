"""The activity of `GET /agents/`, as one without JavaScript sees it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

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


def test_only_the_types_of_a_wildcard(rows: Rows):
    one, _, three = started(), record("deploy.finished"), failed()
    assert rows("/agents/?type=container.*") == [three, one]
    assert rows("/agents/?type=nothing.*") == []


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


def test_each_part_of_the_filter_can_be_removed_and_is_in_the_title(signed_in: Client):
    started()
    page = signed_in.get("/agents/?instance=reviewer-default&failures=1&q=x%26y")
    assertContains(page, "<title>reviewer-default, Failures only, “x&amp;y” · Agents · Dormouse</title>", html=True)
    assertContains(page, 'href="/agents/?failures=1&amp;q=x%26y"><span class="visually-hidden">Remove </span>reviewer')
    assertContains(page, 'href="/agents/?instance=reviewer-default&amp;failures=1"><span')


def test_all_events_is_current_only_without_a_filter(signed_in: Client):
    current = '<a href="/agents/" aria-current="page">All events</a>'
    assertContains(signed_in.get("/agents/"), current)
    assertNotContains(signed_in.get("/agents/?instance=reviewer-default"), current)
    assertNotContains(signed_in.get("/agents/?before=5"), current)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("schlüssel", True),
        ("SCHLÜSSEL", True),
        ("ключ", True),
        ("鍵", True),
        ('"quoted"', True),
        ("50%", True),
        ("50_", False),
    ],
)
def test_a_text_is_found_in_the_data_in_any_script(rows: Rows, text: str, found: bool):
    started()
    id = failed(log_tail='Schlüssel, Ключ, 鍵, "quoted", 50%')
    assert rows(f"/agents/?q={quote(text)}") == [id] * found
    assert rows(f"/agents/activity?after=0&q={quote(text)}") == [id] * found


def test_a_text_is_found_in_the_name_and_the_type(rows: Rows):
    ids = [started("reviewer-blue"), record("deploy.finished").id]
    assert rows("/agents/?q=Viewer-B") == ids[:1]
    assert rows("/agents/?q=deploy") == ids[1:]


def test_a_form_with_empty_fields_leads_to_a_short_address(signed_in: Client):
    page = signed_in.get("/agents/?q=&at=&instance=a&failures=1&before=7")
    assertRedirects(page, "/agents/?instance=a&failures=1&before=7")


def test_a_time_in_the_readers_zone_leads_to_the_events_up_to_it(signed_in: Client):
    signed_in.cookies["zone"] = "Asia/Kolkata"
    moments = [datetime(2026, 11, 23, 18, minute, 30, tzinfo=UTC) for minute in (53, 54, 55)]
    ids = [started(at=moment) for moment in moments]
    page = signed_in.get("/agents/?at=2026-11-24T00:24&q=")
    assertRedirects(page, f"/agents/?before={ids[1] + 1}")
    assertRedirects(signed_in.get("/agents/?at=2026-11-23T18:54:31Z"), f"/agents/?before={ids[1] + 1}")


@pytest.mark.parametrize("text", ["soon", "2026", "0001-01-01T00:00", "9999-12-31T23:59", "2026-02-30T00:00"])
def test_a_time_that_is_none_is_a_400_page_or_the_nearest_one(signed_in: Client, text: str):
    started()
    assert signed_in.get("/agents/", {"at": text}).status_code in (302, 400)


def test_older_pages_lead_back_to_newer_ones(signed_in: Client, rows: Rows):
    ids = [started() for _ in range(3 * PAGE_ROWS)]
    oldest = rows(f"/agents/?before={ids[PAGE_ROWS]}")
    assert oldest == ids[:PAGE_ROWS][::-1]
    link = f'id="newer" href="/agents/?after={oldest[0]}"'
    assertContains(signed_in.get(f"/agents/?before={ids[PAGE_ROWS]}"), link)
    assert rows(f"/agents/?after={oldest[0]}") == ids[PAGE_ROWS : 2 * PAGE_ROWS][::-1]
    newest = signed_in.get(f"/agents/?after={ids[2 * PAGE_ROWS - 1]}")
    assertNotContains(newest, 'id="newer"')
    assertContains(newest, f'href="/agents/?before={ids[2 * PAGE_ROWS]}"')


def test_the_last_line_of_output_is_under_a_failures_sentence(signed_in: Client):
    failed(log_tail="begin\nKeyError: <MODEL_KEY>\n\n  \n")
    assertContains(signed_in.get("/agents/"), '<p class="last-line">KeyError: &lt;MODEL_KEY&gt;</p>')
