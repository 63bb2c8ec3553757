"""`GET /agents/activity?after=N`: the rows for the script."""

from collections.abc import Callable

import pytest
from django.test import Client

from agents_ui.timeline import MAX_NEW_ROWS
from events.log import record
from events.models import EventLog

Rows = Callable[[str], list[int]]


def test_what_came_after_the_cursor_newest_first(signed_in: Client, rows: Rows):
    first, second, third = (record("a.b").id for _ in range(3))
    assert rows(f"/agents/activity?after={first}") == [third, second]


def test_a_row_is_the_same_as_on_the_page(signed_in: Client):
    record("container.lazy_start_failed", instance="a", data={"error": "no"})
    page, fragment = (signed_in.get(address).content.decode() for address in ("/agents/", "/agents/activity?after=0"))
    assert fragment.strip() in page


def test_the_headers_say_how_far_the_log_was_read(signed_in: Client):
    last = record("a.b", instance="other").id
    response = signed_in.get("/agents/activity?after=0&instance=reviewer-default")
    assert (response["Dormouse-Cursor"], response["Dormouse-More"]) == (str(last), "false")


def test_a_hundred_at_a_time_and_none_is_missed(signed_in: Client, rows: Rows):
    for _ in range(MAX_NEW_ROWS * 2 + 1):
        record("a.b")
    seen: list[int] = []
    cursor, more = "0", "true"
    while more == "true":
        seen = rows(f"/agents/activity?after={cursor}") + seen
        response = signed_in.get(f"/agents/activity?after={cursor}")
        cursor, more = response["Dormouse-Cursor"], response["Dormouse-More"]
    assert seen == list(EventLog.objects.values_list("id", flat=True))


def test_a_full_page_with_nothing_after_it_has_no_more(signed_in: Client):
    for _ in range(MAX_NEW_ROWS):
        record("a.b")
    assert signed_in.get("/agents/activity?after=0")["Dormouse-More"] == "false"


def test_it_obeys_the_filter_of_the_page(rows: Rows):
    record("a.b", instance="other")
    failure = record("container.lazy_start_failed", instance="mine", data={"error": "no"}).id
    started = record("container.lazy_started", instance="mine", data={"latency_ms": 1}).id
    assert rows("/agents/activity?after=0&instance=mine") == [started, failure]
    assert rows("/agents/activity?after=0&failures=1") == [failure]
    assert rows("/agents/activity?after=0&type=container.lazy_started") == [started]


def test_what_was_pruned_after_the_cursor_is_said_to_be_missing(signed_in: Client, transactional_db: None):
    seen, pruned, kept = (record("a.b").id for _ in range(3))
    EventLog.objects.prune(pruned)
    assert signed_in.get(f"/agents/activity?after={seen}")["Dormouse-Reset"] == "true"
    for cursor in (pruned, kept):
        assert "Dormouse-Reset" not in signed_in.get(f"/agents/activity?after={cursor}")


def test_a_log_that_is_another_is_said_to_be(signed_in: Client):
    last = record("a.b").id
    assert "Dormouse-Reset" not in signed_in.get(f"/agents/activity?after={last}")
    assert signed_in.get(f"/agents/activity?after={last + 1}")["Dormouse-Reset"] == "true"


def test_a_cursor_from_the_future_comes_back_to_the_end_of_the_log(signed_in: Client):
    last = record("a.b").id
    assert signed_in.get(f"/agents/activity?after={last + 1000}")["Dormouse-Cursor"] == str(last)


@pytest.mark.parametrize("query", ["", "?after=", "?after=x", "?after=-1", "?after=1e3", "?after=" + "9" * 30])
def test_a_malformed_cursor_is_a_problem(signed_in: Client, query: str):
    response = signed_in.get("/agents/activity" + query)
    assert (response.status_code, response["Content-Type"]) == (400, "application/problem+json")
    assert "after is the id of an event" in response.json()["detail"]
