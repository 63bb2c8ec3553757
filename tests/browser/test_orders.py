"""The actions of a card: with the keyboard, without JavaScript, on a phone, and seen by others."""

from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import Group, User
from playwright.sync_api import Page, expect

from lifecycle.models import Instance, Lease, Worker
from tests.browser.conftest import PASSWORD
from tests.browser.seeing import is_live, loads_the_rest
from tests.config.agents import agents_file
from tests.servers import Server

THREE = ("first", "second", "third")


@pytest.fixture
def three(serve, tmp_path) -> Iterator[Server]:
    """A web process with three agents."""
    with agents_file(tmp_path, **dict.fromkeys(THREE, "agent.py")) as environment:
        yield serve(DORMOUSE_ENGINE="process", DORMOUSE_SUPERVISOR="embedded", **environment)


@pytest.fixture
def visit(three: Server, browse: Callable[..., Page]) -> Callable[..., Page]:
    """Signs a user of a group in, in a browser of its own: `visit("alice", "Operators")`."""

    def sign_in(name: str, group: str, **options) -> Page:
        user = User.objects.create_user(name, password=PASSWORD)
        user.groups.add(Group.objects.get(name=group))
        page = browse(**options)
        page.goto(three.url + "/agents/")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".card")).to_have_count(4)
        return page

    return sign_in


def card(page: Page, name: str):
    return page.locator(".card").filter(has=page.get_by_role("link", name=name, exact=True))


def press(page: Page, name: str, action: str) -> None:
    """Open the actions of a card with the keyboard, and choose one."""
    summary = card(page, name).locator("summary")
    if card(page, name).locator("details[open]").count() == 0:
        summary.focus()
        page.keyboard.press("Enter")
    choice = card(page, name).get_by_text(action, exact=True)
    choice.focus()
    expect(choice).to_be_focused()
    page.keyboard.press("Enter")


def said(page: Page, words: str) -> None:
    """What happened is said where the focus is."""
    expect(page.locator(".said")).to_contain_text(words)
    expect(page.locator(".said")).to_be_focused()


PHONE = {"viewport": {"width": 360, "height": 640}, "has_touch": True}


@pytest.mark.parametrize("java_script_enabled", [True, False])
def test_an_operator_acts_on_a_phone_by_keyboard_while_a_viewer_looks(visit, java_script_enabled):
    viewer = visit("vera", "Viewers")
    operator = visit("alice", "Operators", java_script_enabled=java_script_enabled, **PHONE)
    expect(viewer.get_by_text("Actions")).to_have_count(0)
    for name in THREE:
        press(operator, name, "Wake")
        said(operator, f"{name} is ready, after ")
    press(operator, "first", "Keep awake for 4 h")
    said(operator, "first is not put to sleep within 4 h.")
    expect(card(viewer, "first")).to_contain_text("by alice")
    press(operator, "second", "Disable…")
    operator.get_by_label("Why").fill("model key rotated")
    operator.keyboard.press("Enter")
    said(operator, "second is disabled.")
    expect(card(viewer, "second")).to_contain_text("Disabled by alice")
    expect(card(viewer, "second").locator(".state")).to_have_text("asleep")
    press(operator, "third", "Put to sleep")
    said(operator, "third is asleep.")
    expect(viewer.locator(".sentence").filter(has_text="third put to sleep by alice")).to_have_count(1)
    expect(viewer.locator(".sentence").filter(has_text="first kept awake until")).to_have_count(1)
    expect(viewer.locator(".sentence").filter(has_text="second disabled by alice: model key rotated")).to_have_count(1)
    press(operator, "second", "Enable")
    said(operator, "second is enabled.")
    press(operator, "first", "Let it sleep when idle")
    said(operator, "first is put to sleep when it is idle.")


@pytest.mark.parametrize("java_script_enabled", [True, False])
def test_work_is_broken_off_only_after_a_question(visit, java_script_enabled):
    page = visit("alice", "Operators", java_script_enabled=java_script_enabled)
    press(page, "first", "Wake")
    said(page, "first is ready")
    worker = Worker.objects.first()
    lease = Lease.objects.create(instance_id="first", worker=worker.pk, since=worker.started)
    page.reload()
    press(page, "first", "Put to sleep")
    expect(page.get_by_role("heading", name="Break off the work of first?")).to_be_visible()
    page.get_by_role("link", name="Cancel").click()
    expect(card(page, "first").locator(".state")).to_have_text("ready")
    press(page, "first", "Put to sleep")
    page.get_by_role("button", name="Break off, and put to sleep").click()
    said(page, "first is asleep.")
    lease.delete()


def test_a_menu_stays_open_and_keeps_the_focus_when_its_card_changes(visit):
    page = visit("alice", "Operators")
    loads_the_rest(page)
    card(page, "first").locator("summary").focus()
    page.keyboard.press("Enter")
    disable = card(page, "first").get_by_text("Disable…")
    disable.focus()
    Instance.objects.filter(pk="first").update(label_warning="it has changed")
    expect(card(page, "first")).to_contain_text("it has changed")
    expect(disable).to_be_focused()
    page.reload()
    is_live(page)
    expect(card(page, "first").locator(".orders")).to_have_attribute("open", "")
    expect(page.locator(".orders[open]")).to_have_count(1)
