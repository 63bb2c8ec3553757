"""The page below a base path."""

from collections.abc import Callable

from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from events.log import record
from tests.browser.conftest import PASSWORD
from tests.browser.seeing import is_live
from tests.servers import Server


def test_the_page_is_live_below_a_base_path(serve: Callable[..., Server], browse: Callable[..., Page], operator: User):
    server = serve(DORMOUSE_BASE_PATH="/tools/dormouse")
    page = browse(timezone_id="Europe/Berlin")
    page.goto(f"{server.url}/tools/dormouse")
    page.get_by_label("Username").fill("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    is_live(page)
    record("deploy.finished", instance="reviewer-default")
    expect(page.locator(".row .sentence")).to_have_text("Deploy finished · reviewer-default")
    assert {cookie["path"] for cookie in page.context.cookies()} == {"/tools/dormouse"}
