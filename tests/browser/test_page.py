"""Without JavaScript, on a small screen, with the keyboard."""

from collections.abc import Callable

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from events.log import record
from lifecycle.models import Instance
from tests.browser.conftest import PASSWORD
from tests.browser.seeing import SignIn, state
from tests.servers import Server

NAME = "planner-with-a-rather-long-name-that-never-breaks-" + "x" * 60


@pytest.fixture
def eventful(server: Server) -> Server:
    Instance.objects.create(name=NAME, since=timezone.now(), label_error="y" * 300)
    data = {"error": "z" * 3000, "cause": "exited", "exit_code": 1, "log_tail": "w" * 3000}
    record("container.lazy_start_failed", instance=NAME, data=data)
    record("deploy.finished", instance="reviewer-default")
    return server


def test_everything_works_without_javascript(eventful: Server, sign_in: SignIn):
    page = sign_in(eventful, java_script_enabled=False)
    state(page, "Reload to see what is new")
    page.locator(".row summary").click()
    expect(page.locator(".row dd").nth(1)).to_have_text("1")
    page.get_by_role("link", name="Failures only").click()
    expect(page.locator(".row")).to_have_count(1)
    page.get_by_role("link", name="All events").click()
    page.get_by_text("Filter, search, go to a time").click()
    page.get_by_label("reviewer-default").check()
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(eventful.url + "/agents/?instance=reviewer-default")
    expect(page.locator(".row .sentence")).to_have_text("Deploy finished · reviewer-default")


@pytest.mark.parametrize("address", ["/agents/", "/agents/?before=9", "/agents/activity/{failure}", "/agents/nothing"])
def test_nothing_scrolls_sideways_at_320_px(eventful: Server, sign_in: SignIn, complaints, address: str):
    page = sign_in(eventful, viewport={"width": 320, "height": 640})
    failure = page.locator(".row.alert").get_attribute("data-id")
    page.goto(eventful.url + address.format(failure=failure))
    for details in page.locator("summary").all():
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    complaints[:] = [complaint for complaint in complaints if "404" not in complaint]


def test_the_login_fits_at_320_px(server: Server, browse: Callable[..., Page]):
    page = browse(viewport={"width": 320, "height": 640})
    page.goto(server.url + "/agents/")
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_the_first_key_offers_to_skip_to_the_content(server: Server, sign_in: SignIn):
    page = sign_in(server)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_an_open_failure_scrolls_inside_itself(eventful: Server, sign_in: SignIn):
    page = sign_in(eventful)
    page.locator(".row summary").click()
    output = page.get_by_role("group", name="Output")
    assert output.bounding_box()["height"] <= 22 * 16
    output.focus()
    expect(output).to_be_focused()


def test_signing_in_leads_to_where_one_was_going(server: Server, browse: Callable[..., Page]):
    page = browse()
    page.goto(server.url + "/agents/?failures=1")
    page.get_by_label("Username").fill("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(server.url + "/agents/?failures=1")


def test_signing_out(server: Server, sign_in: SignIn):
    page = sign_in(server)
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(server.url + "/accounts/login/")
