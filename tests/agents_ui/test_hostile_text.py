"""What a container prints, or is called, is data: shown, never obeyed."""

import pytest
from django.test import Client
from pytest_django.asserts import assertContains, assertNotContains

from agents_ui.templatetags.agents_ui import head, tail
from events.invisible import escape_invisible
from events.log import record

SCRIPT = '<script>alert("x")</script>'
ESCAPED = "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;"


@pytest.mark.parametrize("address", ["/agents/", "/agents/activity?after=0", "/agents/activity/{id}"])
def test_markup_in_a_name_an_error_and_an_output_is_text(signed_in: Client, address: str):
    event = record("container.lazy_start_failed", instance=SCRIPT, data={"error": SCRIPT, "log_tail": SCRIPT})
    page = signed_in.get(address.format(id=event.id))
    assertNotContains(page, "<script>alert")
    assertContains(page, f"{ESCAPED}</a> failed to start: {ESCAPED}")


def test_a_name_cannot_leave_the_address_of_its_filter(signed_in: Client):
    record("a.b", instance='x" onclick="alert(1)&type=y')
    assertContains(signed_in.get("/agents/"), "?instance=x%22%20onclick%3D%22alert%281%29%26type%3Dy")


def test_control_characters_are_seen(signed_in: Client):
    record("container.lazy_start_failed", instance="a", data={"error": "a\x00b", "log_tail": "\x1b[31mred\u202egnp"})
    page = signed_in.get("/agents/")
    assertContains(page, "a\N{REPLACEMENT CHARACTER}b")
    assertContains(page, r"\x1b[31mred\u202egnp")


def test_lines_and_tabs_stay_and_other_letters_too():
    assert escape_invisible("a\tb\r\nc é 漢 👩\N{VARIATION SELECTOR-16}") == "a\tb\nc é 漢 👩\N{VARIATION SELECTOR-16}"


@pytest.mark.parametrize("length", [50_000, 60_000])
def test_a_long_output_is_cut_to_its_end_in_a_row(signed_in: Client, length: int):
    record("container.lazy_start_failed", instance="a", data={"error": "x", "log_tail": "y" * length + "the end"})
    page = signed_in.get("/agents/")
    assertContains(page, "ythe end</pre>")
    assert len(page.content) < 30_000


def test_a_long_error_is_cut_in_the_sentence_and_longer_in_the_details(signed_in: Client):
    record("container.lazy_start_failed", instance="a", data={"error": "x" * 50_000})
    page = signed_in.get("/agents/")
    assertContains(page, "failed to start: " + "x" * 283 + "…")
    assertContains(page, "x" * 2000 + "…</pre>")


def test_what_is_short_is_not_cut():
    assert (head("abc", 3), tail("abc", 3)) == ("abc", "abc")


def test_a_cut_output_begins_with_a_whole_line():
    assert tail("first\nsecond\nthird", 10) == "…\nthird"
    assert tail("x" * 10, 4) == "…\nxxxx"


def test_data_of_the_wrong_shape_break_nothing(signed_in: Client):
    for data in ({}, {"error": None, "exit_code": {}, "log_tail": ["a"]}, {"error": 5, "cause": ["a"]}):
        event = record("container.lazy_start_failed", instance="a", data=data)
        assert signed_in.get(f"/agents/activity/{event.id}").status_code == 200
    record("container.lazy_started", instance="a", data={"latency_ms": "soon"})
    assertContains(signed_in.get("/agents/"), 'Started · <a class="name"')
