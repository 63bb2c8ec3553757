"""With 200 agents in every state the page is light, fits a narrow screen, and is short for the keyboard."""

from playwright.sync_api import expect

from tests.browser.seeing import SignIn, is_live, weigh
from tests.servers import Server


def test_the_first_row_and_the_first_agent_are_at_most_six_stops_away(many: Server, sign_in: SignIn):
    page = sign_in(many)
    is_live(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the activity")
    expect(skip).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Activity")).to_be_focused()
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.row') === document.querySelector('.row')")


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
