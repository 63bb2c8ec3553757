"""With 200 agents in every state the page is light, fits a narrow screen, and is short for the keyboard."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.seeing import SignIn, is_live, weigh
from tests.servers import Server

MOST_STOPS = 6

#: Nine names are filtered for, and each of them has a link that removes it.
FILTER = "&".join(f"instance=agent-{number:03}" for number in range(9))


@pytest.mark.parametrize(
    ("query", "link", "target"),
    [
        (FILTER, "Skip to the agents", ".card"),
        (FILTER, "Skip to the events", ".row"),
        (f"{FILTER}&before=9999999", "Skip to the events", ".row"),
        (f"{FILTER}&after=0", "Skip to the events", ".row"),
    ],
    ids=["agents", "events", "older events", "newer events"],
)
def test_a_skip_link_leads_to_the_first_one_in_at_most_six_stops(
    many: Server, sign_in: SignIn, query: str, link: str, target: str
):
    page = sign_in(many, f"/agents/?{query}")
    stops = tab_until(page, "(part, name) => part.textContent === name", link)
    expect(page.get_by_role("link", name=link)).to_be_in_viewport()
    page.keyboard.press("Enter")
    is_first = "(part, target) => part.closest(target) === document.querySelector(target)"
    assert stops + tab_until(page, is_first, target) <= MOST_STOPS


def tab_until(page: Page, is_there: str, value: str) -> int:
    """Press the Tab key until `is_there(focused part, value)`. Return how often, which is at most MOST_STOPS + 1."""
    for stops in range(1, MOST_STOPS + 1):
        page.keyboard.press("Tab")
        if page.evaluate(f"value => ({is_there})(document.activeElement, value)", value):
            return stops
    return MOST_STOPS + 1


def test_nothing_scrolls_sideways_at_320_px(many: Server, sign_in: SignIn):
    page = sign_in(many, viewport={"width": 320, "height": 640})
    is_live(page)
    for summary in page.locator("summary").all()[:8]:
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_it_weighs_at_most_30_kb(many: Server, sign_in: SignIn):
    page = sign_in(many)
    sizes = weigh(page)
    assert sum(sizes.values()) <= 30 * 1024, sizes


def test_on_a_phone_a_link_above_the_cards_leads_to_the_activity(many: Server, sign_in: SignIn):
    page = sign_in(many, viewport={"width": 390, "height": 844})
    heading = page.get_by_role("heading", name="Activity")
    expect(heading).not_to_be_in_viewport()
    page.locator("#instances").get_by_role("link", name="Activity").click()
    expect(heading).to_be_in_viewport()
