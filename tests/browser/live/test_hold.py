"""New rows are held while the list is read: nothing in it moves, and the held rows are counted."""

import time
from itertools import pairwise

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from events.log import record
from events.models import EventLog
from lifecycle.models import Instance
from tests.browser.proxy import Proxy
from tests.browser.seeing import HIDE, SignIn, is_live, rows, shows, state
from tests.servers import Server, wait_for


@pytest.fixture
def page(server: Server, sign_in: SignIn) -> Page:
    """Live, with sixty rows of which fifty are shown."""
    for number in range(60):
        record("container.lazy_start_failed", instance=f"agent-{number}", data={"error": "no", "log_tail": "x"})
    page = sign_in(server)
    is_live(page)
    return page


def button(page: Page, count: int):
    return page.get_by_role("button", name=f"Show {count} new event" + "s" * (count > 1), exact=True)


def happen(count: int) -> list[int]:
    return [record("a.b").id for _ in range(count)]


def scroll(page: Page) -> None:
    page.locator(".row").nth(25).scroll_into_view_if_needed()


def hover(page: Page) -> None:
    page.locator(".row").nth(2).hover()


def focus(page: Page) -> None:
    page.locator(".row .name").nth(2).focus()


def select(page: Page) -> None:
    page.locator(".row .sentence").nth(2).evaluate("row => getSelection().selectAllChildren(row)")


@pytest.mark.parametrize("read", [scroll, hover, focus, select])
def test_rows_wait_while_the_list_is_read(page: Page, read):
    read(page)
    before = rows(page)
    happen(3)
    expect(button(page, 3)).to_be_visible()
    assert rows(page) == before


@pytest.mark.parametrize("read", [scroll, hover, focus, select])
def test_what_is_read_does_not_move_while_200_events_arrive(page: Page, read):
    page.evaluate(
        """() => {
            window.shifted = [];
            const parts = entry => entry.sources.map(({node}) => node.parentElement?.closest('.columns') && node);
            new PerformanceObserver(list => shifted.push(...list.getEntries().flatMap(parts).filter(Boolean)))
                .observe({type: 'layout-shift'});
        }"""
    )
    read(page)
    top = "row => row.getBoundingClientRect().top"
    row = page.locator(".row").nth(25 if read is scroll else 2)
    id = row.get_attribute("data-id")
    before = row.evaluate(top)
    happen(200)
    expect(button(page, 200)).to_be_visible()
    assert page.locator(f".row[data-id='{id}']").evaluate(top) == before
    assert page.evaluate("shifted.map(part => part.outerHTML ?? part.data)") == []


def test_the_button_shows_them_and_the_focus_is_on_the_heading(page: Page):
    scroll(page)
    ids = happen(3)
    button(page, 3).focus()
    page.keyboard.press("Enter")
    heading = page.get_by_role("heading", name="Activity")
    expect(heading).to_be_focused()
    assert heading.evaluate("heading => getComputedStyle(heading).outlineStyle") == "solid"
    expect(page.locator(f".row[data-id='{ids[-1]}']")).to_be_in_viewport()
    assert page.locator(".row").nth(0).get_attribute("data-id") == str(ids[-1])
    expect(page.locator("#show")).to_be_hidden()


def test_beyond_a_hundred_the_newest_page_is_drawn_anew(page: Page):
    scroll(page)
    ids = happen(120)
    button(page, 120).click()
    expect(page.locator(".row").first).to_have_attribute("data-id", str(ids[-1]))
    shows(page, ids[-50:])
    expect(page.locator("#show")).to_be_hidden()
    ids += happen(1)
    expect(page.locator(".row").first).to_have_attribute("data-id", str(ids[-1]))
    live = rows(page, 20)
    page.reload()
    assert rows(page, 20) == live


@pytest.mark.parametrize(
    ("read", "leave"),
    [
        (hover, lambda page: page.mouse.move(5, 5)),
        (focus, lambda page: page.evaluate("document.activeElement.blur()")),
        (select, lambda page: page.evaluate("getSelection().empty()")),
        (scroll, lambda page: page.mouse.wheel(0, -10_000)),
    ],
)
def test_held_rows_are_inserted_when_the_reader_leaves(page: Page, read, leave):
    read(page)
    ids = happen(2)
    expect(button(page, 2)).to_be_visible()
    leave(page)
    expect(page.locator(".row").first).to_have_attribute("data-id", str(ids[-1]))
    expect(page.locator("#show")).to_be_hidden()


def test_paused_nothing_goes_in_until_resumed(page: Page):
    pause = page.get_by_role("button", name="Pause live updates")
    pause.click()
    state(page, "Live updates paused")
    before = rows(page)
    ids = happen(2)
    expect(button(page, 2)).to_be_visible()
    assert rows(page) == before
    page.get_by_role("button", name="Resume live updates").click()
    is_live(page)
    expect(page.locator(".row").first).to_have_attribute("data-id", str(ids[-1]))


def test_paused_the_button_shows_them_all_the_same(page: Page):
    page.get_by_role("button", name="Pause live updates").click()
    ids = happen(2)
    button(page, 2).click()
    expect(page.locator(".row").first).to_have_attribute("data-id", str(ids[-1]))
    state(page, "Live updates paused")


def test_the_list_never_has_more_than_500_rows_and_the_older_ones_are_a_link_away(page: Page):
    for _ in range(6):
        last = happen(90)[-1]
        expect(page.locator(".row").first).to_have_attribute("data-id", str(last))
    expect(page.locator(".row")).to_have_count(500)
    ids = list(EventLog.objects.order_by("-id").values_list("id", flat=True))
    assert page.locator(".row").evaluate_all("rows => rows.map(row => +row.dataset.id)") == ids[:500]
    page.get_by_role("link", name="Load older events").click()
    expect(page.get_by_role("heading", name="Older events")).to_be_visible()
    assert page.locator(".row").evaluate_all("rows => rows.map(row => +row.dataset.id)") == ids[500:550]


@pytest.mark.parametrize(("read", "height"), [(focus, 700), (focus, 1600), (scroll, 700)])
def test_on_a_phone_it_does_not_move_either_when_the_cards_above_it_grow(server, sign_in: SignIn, read, height: int):
    """Test a scrolled page, and one that is not scrolled, in which the browser itself keeps nothing in place."""
    Instance.objects.create(name="planner", since=timezone.now(), run=3)
    for _ in range(60):
        record("a.b", instance="planner")
    page = sign_in(server, viewport={"width": 390, "height": height})
    is_live(page)
    read(page)
    assert (page.evaluate("scrollY") == 0) == (height == 1600)
    row = page.locator(".row").nth(25 if read is scroll else 2)
    page.evaluate("new Promise((done) => setTimeout(done, 200))")  # scrolled, and drawn
    before = row.evaluate("row => row.getBoundingClientRect().top")
    Instance.objects.update(failure={"run": 3, "error": "exited with code 1 before it was ready"})
    happen(1)
    expect(page.locator(".card .trouble")).to_have_count(1)
    expect(button(page, 1)).to_be_visible()
    assert row.evaluate("row => row.getBoundingClientRect().top") == pytest.approx(before, abs=0.5)


def test_what_was_held_in_a_hidden_tab_is_not_lost_when_it_cannot_be_drawn_at_once(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    is_live(page)
    page.evaluate(HIDE, True)
    ids = happen(150)
    expect(page.locator("#show")).to_have_text("Show 150 new events")
    proxy.refuse(503, only="/agents/ ")  # the page itself, and nothing else
    page.evaluate(HIDE, False)
    expect(page.locator("#announcer")).to_have_text("The newest events could not be fetched")
    ids += happen(1)
    expect(page.locator("#show")).to_have_text("Show 151 new events")
    proxy.heal()
    page.get_by_role("button", name="Show 151 new events").click()
    shows(page, ids[-50:])


def asked(proxy: Proxy) -> int:
    return sum("/agents/activity" in line for line in proxy.asked)


def test_rows_are_asked_for_at_most_once_a_second_in_a_burst(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    is_live(page)
    proxy.asked.clear()
    began = time.monotonic()
    wait_for(lambda: happen(5) and asked(proxy) >= 4, what="the rows to be asked for four times")
    last = happen(1)[0]
    expect(page.locator(".row").first).to_have_attribute("data-id", str(last))
    assert asked(proxy) <= time.monotonic() - began + 2
    time.sleep(3)  # and when that has been shown, no more
    before = asked(proxy)
    time.sleep(3)
    assert asked(proxy) == before


@pytest.mark.parametrize(("motion", "tinted"), [("no-preference", "1.5s"), ("reduce", "0s")])
def test_a_new_row_is_tinted_for_a_moment_and_not_where_motion_is_reduced(server, sign_in, motion, tinted):
    page = sign_in(server, reduced_motion=motion)
    is_live(page)
    happen(1)
    expect(page.locator(".row")).to_have_count(1)
    assert page.locator(".row").evaluate("row => getComputedStyle(row).transitionDuration") == tinted


def test_the_focus_is_never_lost_when_rows_arrive(page: Page):
    for part in (page.locator(".row .name").first, page.locator("#instances pre").first, page.locator("#pause")):
        part.focus()
        kept = page.evaluate("document.activeElement.outerHTML")
        happen(1)
        expect(page.locator("#announcer")).to_have_text("A b")
        assert page.evaluate("document.activeElement.outerHTML") == kept
        page.evaluate("document.getElementById('announcer').textContent = ''")


def test_the_announcer_is_silent_on_load_and_speaks_at_most_once_a_second(page: Page):
    assert page.locator("#announcer").text_content() == ""
    page.clock.install()
    page.reload()
    is_live(page)
    page.evaluate(
        """() => {
            window.spoken = [];
            const announcer = document.getElementById('announcer');
            new MutationObserver(() => spoken.push([Date.now(), announcer.textContent]))
                .observe(announcer, {childList: true, characterData: true, subtree: true});
        }"""
    )
    for _ in range(4):
        last = happen(20)[-1]
        expect(page.locator(".row").first).to_have_attribute("data-id", str(last))
    spoken = page.evaluate("spoken")
    assert spoken
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(spoken)]
    assert all(gap >= 990 for gap in gaps), spoken


def test_of_what_comes_at_once_the_announcer_says_the_first_and_a_second_later_the_last(page: Page):
    page.evaluate(
        """async () => {
            const {announce} = await import('/static/agents_ui/stream.js');
            window.spoken = [];
            const announcer = document.getElementById('announcer');
            new MutationObserver(() => spoken.push([Date.now(), announcer.textContent]))
                .observe(announcer, {childList: true, characterData: true, subtree: true});
            for (const text of ['one', 'two', 'three']) announce(text);
        }"""
    )
    spoken = wait_for(lambda: len(found := page.evaluate("spoken")) >= 2 and found)
    (first, one), (second, other) = spoken[:2]
    assert (one, other) == ("one", "three")
    assert second - first >= 990
