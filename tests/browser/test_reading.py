"""Zones, copying, print, magnification and the keyboard."""

import re
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from playwright.sync_api import Route, expect

from events.log import record
from tests.browser.seeing import SignIn, is_live, loads_the_rest, shows, state
from tests.servers import Server, wait_for

NIGHT = datetime(2026, 11, 22, 20, 0, 11, tzinfo=UTC)
SELECTED = "element => { getSelection().selectAllChildren(element); return getSelection().toString(); }"


@pytest.mark.parametrize(
    ("zone", "day", "time"),
    [
        ("UTC", "Sunday 22 November 2026", "2026-11-22 20:00:11 UTC"),
        ("Asia/Kolkata", "Monday 23 November 2026", "2026-11-23 01:30:11 IST (UTC+5:30)"),
    ],
)
def test_times_and_days_are_the_readers_and_survive_copying(
    server: Server, sign_in: SignIn, zone: str, day: str, time: str
):
    id = record("a.b", at=NIGHT).id
    page = sign_in(server, timezone_id=zone)
    is_live(page)
    expect(page.locator(".day h3").first).to_have_text(day)
    wait_for(lambda: page.evaluate("document.cookie.includes('zone=')"))
    page.reload()
    is_live(page)
    assert time in page.locator(".row .when").first.evaluate(SELECTED).replace("\n", "")
    page.evaluate("getSelection().empty()")
    ids = [id, record("a.b").id]
    shows(page, ids)
    assert page.locator(".row time").first.text_content().count("IST") == (zone != "UTC")
    page.reload()
    expect(page.locator(".day h3").last).to_have_text(day)


def test_the_day_the_clocks_change(server: Server, sign_in: SignIn):
    for day, hour in ((24, 21), (25, 0), (25, 1), (25, 22)):  # 23:30, twice 02:30, 23:30
        record("a.b", at=datetime(2026, 10, day, hour, 30, tzinfo=UTC))
    page = sign_in(server, timezone_id="Europe/Berlin")
    expect(page.locator(".day h3")).to_have_text(["Sunday 25 October 2026", "Saturday 24 October 2026"])
    times = ["23:30:00 CET", "02:30:00 CET", "02:30:00 CEST", "23:30:00 CEST"]
    expect(page.locator(".row time")).to_contain_text(times)


def test_equal_times_keep_the_order_of_the_log(server: Server, sign_in: SignIn):
    page = sign_in(server)
    is_live(page)
    ids = [record("a.b", instance=f"agent-{number}", at=NIGHT).id for number in range(5)]
    shows(page, ids)
    page.reload()
    shows(page, ids)


def test_the_details_are_copied_whole(server: Server, sign_in: SignIn):
    data = {"error": "exited with code 1", "cause": "exited", "exit_code": 1, "log_tail": "Traceback\n  KeyError"}
    id = record("container.lazy_start_failed", instance="planner", data=data, at=NIGHT).id
    page = sign_in(server, permissions=["clipboard-read", "clipboard-write"])
    is_live(page)
    for address in ("/agents/", f"/agents/activity/{id}"):
        page.goto(server.url + address)
        for summary in page.locator(".row summary").all():
            summary.click()
        page.get_by_role("button", name="Copy the details").click()
        expect(page.get_by_text("Copied")).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.splitlines()[0] == f"{server.url}/agents/activity/{id}"
        for part in ("planner failed to start: exited with code 1", "2026", "20:00:11 UTC", "Traceback\n  KeyError"):
            assert part in copied


def test_what_a_row_has_shortened_is_copied_whole(server: Server, sign_in: SignIn):
    data = {"error": "e" * 2500 + "end of the error", "log_tail": "first line\n" + "line\n" * 1500}
    id = record("container.lazy_start_failed", instance="planner", data=data, at=NIGHT).id
    page = sign_in(server, permissions=["clipboard-read", "clipboard-write"])
    is_live(page)
    page.locator(".row summary").click()
    page.get_by_role("button", name="Copy the details").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines()[0] == f"{server.url}/agents/activity/{id}"
    for part in ("planner failed to start", "2026", "20:00:11 UTC", "end of the error", "first line"):
        assert part in copied


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_there_are_the_rows_and_no_buttons_in_black(server: Server, sign_in: SignIn, scheme: str):
    record("container.lazy_started", instance="a", data={"latency_ms": 3}, at=NIGHT)
    page = sign_in(server, color_scheme=scheme)
    is_live(page)
    page.emulate_media(media="print")
    expect(page.locator(".row .sentence")).to_be_visible()
    for part in ("#pause", "#connection", ".filter", ".quick", ".top", ".more"):
        expect(page.locator(part)).to_be_hidden()
    assert page.locator(".row .sentence").evaluate("row => getComputedStyle(row).color") == "rgb(36, 34, 43)"
    assert "2026-11-22" in page.locator(".row time").inner_text()


def test_paper_says_when_it_was_printed_with_which_filter_and_whether_it_is_stale(server: Server, sign_in: SignIn):
    record("a.b", instance="planner")
    page = sign_in(server, "/agents/?instance=planner&failures=1", timezone_id="Asia/Kolkata")
    is_live(page)
    page.get_by_role("button", name="Pause live updates").click()
    expect(page.locator(".printed")).to_be_hidden()
    loads_the_rest(page)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    printed = re.compile(r"^Printed \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+\. Filter: planner, Failures only\.$")
    expect(page.locator(".printed")).to_have_text(printed, use_inner_text=True)
    expect(page.locator("#connection")).to_have_text("Live updates paused", use_inner_text=True)


def test_the_time_of_printing_is_that_of_the_print_and_not_of_the_load(server: Server, sign_in: SignIn):
    page = sign_in(server)
    page.clock.install()
    page.reload()
    is_live(page)
    loads_the_rest(page)
    page.clock.set_fixed_time("2031-02-03T04:05:06Z")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    expect(page.locator(".printed")).to_have_text("Printed 2031-02-03 04:05:06 UTC. All events.", use_inner_text=True)


@pytest.mark.parametrize("leave", ["back", "reload"])
def test_pause_and_what_is_opened_are_kept_over_back_and_reload(server: Server, sign_in: SignIn, leave: str):
    data = {"error": "exited with code 1", "log_tail": "Traceback"}
    ids = [record("container.lazy_start_failed", instance=name, data=data).id for name in "abc"]
    page = sign_in(server)
    is_live(page)
    loads_the_rest(page)
    opened = page.locator(f".row[data-id='{ids[1]}'] details")
    opened.locator("summary").click()
    page.locator(".filter summary").click()
    page.locator(".filter summary").click()
    page.get_by_role("button", name="Pause live updates").click()
    if leave == "back":
        page.locator(".row .when").first.click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("c failed to start")
        page.go_back()
    else:
        page.reload()
    state(page, "Live updates paused")
    expect(opened).to_have_attribute("open", "")
    expect(page.locator("details[open]")).to_have_count(1)
    record("a.b")
    expect(page.get_by_role("button", name="Show 1 new event", exact=True)).to_be_visible()
    page.get_by_role("button", name="Resume live updates").click()
    page.reload()
    is_live(page)


def test_what_is_opened_before_the_last_script_is_there_is_kept_too(server: Server, sign_in: SignIn):
    record("container.lazy_start_failed", instance="a", data={"error": "no"})
    page = sign_in(server)
    loads_the_rest(page)
    held: list[Route] = []
    page.route("**/reader.js", lambda route: held.append(route))
    page.reload()
    is_live(page)
    wait_for(lambda: page.evaluate("1") and held, what="the script to be asked for")
    page.locator(".row summary").click()
    held[0].continue_()
    loads_the_rest(page)
    page.unroute("**/reader.js")
    page.reload()
    expect(page.locator(".row details")).to_have_attribute("open", "")


def test_what_is_opened_stays_so_when_the_list_is_drawn_again(server: Server, sign_in: SignIn):
    id = record("container.lazy_start_failed", instance="a", data={"error": "no"}).id
    page = sign_in(server)
    is_live(page)
    loads_the_rest(page)
    opened = page.locator(f".row[data-id='{id}'] details")
    opened.locator("summary").click()
    page.evaluate("document.activeElement.blur()")
    opened.evaluate("details => details.before(document.createElement('hr'))")
    page.evaluate("document.dispatchEvent(new Event('zone'))")
    expect(page.locator(".row hr")).to_have_count(0)
    expect(opened).to_have_attribute("open", "")


def test_nothing_scrolls_sideways_at_200_percent(server: Server, sign_in: SignIn):
    record("container.lazy_start_failed", instance="a" * 90, data={"error": "z" * 900, "log_tail": "w" * 900})
    page = sign_in(server, viewport={"width": 640, "height": 400}, device_scale_factor=2)
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    page.locator(".row summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 640


def test_the_keyboard_reaches_everything_in_the_order_seen(server: Server, sign_in: SignIn):
    data = {"error": "exited with code 1", "log_tail": "x"}
    record("container.lazy_start_failed", instance="a", data=data)
    record("a.b", instance="b")
    page = sign_in(server)
    is_live(page)
    loads_the_rest(page)  # only then is there a button that copies the details
    page.locator(".row summary").press("Enter")
    page.locator(".filter summary").press("Enter")
    page.evaluate("document.activeElement.blur()")
    reachable = page.evaluate(
        """() => [...document.querySelectorAll('a[href], button, input, summary, [tabindex="0"]')]
            .filter(part => part.checkVisibility() && part.type !== 'hidden').length"""
    )
    seen: list[tuple[str, float, float]] = []
    for _ in range(reachable + 10):  # once around, past the browser's own; each part of the time is a stop
        page.keyboard.press("Tab")
        label, top, left, outline = page.evaluate(
            """() => {
                const part = document.activeElement, box = part.getBoundingClientRect(), style = getComputedStyle(part);
                return [part.outerHTML.slice(0, 90), box.top + scrollY, box.left,
                    `${style.outlineStyle} ${style.outlineWidth} ${style.outlineColor}`];
            }"""
        )
        if label.startswith("<body"):
            continue
        assert outline.startswith("solid 3px rgb("), (label, outline)
        seen.append((label, top, left))
    assert len({label for label, _, _ in seen}) == reachable
    for part in ("columns > .instances", "columns > .activity"):
        tops = page.evaluate(
            "selector => [...document.querySelectorAll(selector + ' :is(a, button, input, summary, [tabindex=\"0\"])')]"
            ".filter(part => part.checkVisibility()).map(part => part.getBoundingClientRect().top)",
            f".{part}",
        )
        assert all(later >= earlier - 30 for earlier, later in pairwise(tops))
