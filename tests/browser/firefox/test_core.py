"""The core of the page in Firefox ESR: what it does there as in Chromium."""

from collections.abc import Callable

from django.contrib.auth.models import Group, User
from django.utils import timezone

from events.log import record
from lifecycle.models import Instance
from tests.browser.conftest import PASSWORD
from tests.browser.firefox.bidi import ENTER, TAB, Tab
from tests.browser.firefox.conftest import SignIn
from tests.browser.proxy import Proxy
from tests.config.agents import agents_file
from tests.servers import Server, wait_for

CONNECTION = "#connection > span"
SENTENCES = ".row .sentence"
OUTPUT = ".row pre[aria-labelledby^=output]"


def is_live(tab: Tab) -> None:
    tab.shows(CONNECTION, "Live")


def enter_password(tab: Tab, name: str) -> None:
    tab.click("textbox", "Username")
    tab.type(name + TAB + PASSWORD + ENTER)


def fail(output: str = "KeyError: 'API_KEY'") -> int:
    error = {"error": "exited with code 1", "cause": "exited", "exit_code": 1, "log_tail": output}
    return record("container.lazy_start_failed", instance="reviewer-default", data=error).id


def test_a_person_signs_in_and_sees_the_cards_and_rows(server: Server, open_tab: Callable[[], Tab]):
    Instance.objects.create(name="reviewer-default", since=timezone.now(), run=3)
    record("container.lazy_started", instance="reviewer-default", data={"latency_ms": 287})
    tab = open_tab()
    tab.visit(server.url + "/agents/")
    enter_password(tab, "operator")
    tab.shows(".card .name", "reviewer-default")
    tab.shows(".card .state", "asleep")
    tab.shows(SENTENCES, "reviewer-default started in 287 ms")
    is_live(tab)


def test_an_event_appears_as_a_row_and_its_card_changes(server: Server, sign_in: SignIn):
    Instance.objects.create(name="reviewer-default", since=timezone.now(), run=3)
    tab = sign_in(server)
    is_live(tab)
    Instance.objects.update(state="ready")
    record("container.lazy_started", instance="reviewer-default", data={"latency_ms": 287})
    tab.shows(SENTENCES, "reviewer-default started in 287 ms")
    tab.shows(".card .state", "ready")


def test_pause_holds_rows_and_shows_them_when_it_ends(server: Server, sign_in: SignIn):
    tab = sign_in(server)
    is_live(tab)
    tab.click("button", "Pause live updates")
    tab.shows(CONNECTION, "Live updates paused")
    record("a.b")
    record("a.c")
    tab.shows("#show", "Show 2 new events")
    tab.shows(SENTENCES)
    tab.click("button", "Show 2 new events")
    tab.shows(SENTENCES, "A c", "A b")
    tab.click("button", "Resume live updates")
    is_live(tab)
    tab.point_away()
    record("a.d")
    tab.shows(SENTENCES, "A d", "A c", "A b")


def test_rows_that_come_live_obey_the_filter_in_the_address(server: Server, sign_in: SignIn):
    record("a.b", instance="mine")
    tab = sign_in(server, "/agents/?instance=mine")
    is_live(tab)
    record("a.b", instance="other")
    record("a.c", instance="mine")
    tab.shows(SENTENCES, "A c · mine", "A b · mine")
    tab.click("link", "Remove mine")
    tab.shows(SENTENCES, "A c · mine", "A b · other", "A b · mine")


def test_opened_details_stay_open_over_a_reload_and_are_copied(server: Server, sign_in: SignIn):
    fail()
    tab = sign_in(server)
    tab.until("document.documentElement.dataset.clipboard === ''")  # the last script is there
    tab.evaluate("document.querySelector('.row summary').focus()")
    tab.type(ENTER)
    tab.shows(OUTPUT, "KeyError: 'API_KEY'")
    tab.reload()
    is_live(tab)
    tab.shows(OUTPUT, "KeyError: 'API_KEY'")
    tab.click("button", "Copy the details")
    tab.shows("[data-copy] + *", "Copied")


def test_the_tabs_of_a_browser_share_one_stream(proxy: Proxy, sign_in: SignIn):
    first = sign_in(proxy)
    is_live(first)
    second = first.another(proxy.url + "/agents/")
    is_live(second)
    record("a.b")
    for tab in (first, second):
        tab.shows(SENTENCES, "A b")
    assert proxy.streams == 1
    first.close()
    wait_for(lambda: proxy.streams == 2, what="the other tab to follow")
    record("a.c")
    second.shows(SENTENCES, "A c", "A b")


def test_a_page_is_whole_after_the_server_was_restarted(own_server: Server, sign_in: SignIn):
    tab = sign_in(own_server)
    is_live(tab)
    own_server.stop()
    wait_for(lambda: tab.texts(CONNECTION) != ["Live"], what="the loss to be said")
    record("a.b")
    own_server.restart()
    is_live(tab)
    record("a.c")
    tab.shows(SENTENCES, "A c", "A b")


def test_an_operator_wakes_disables_and_puts_to_sleep(serve, operator: User, open_tab: Callable[[], Tab], tmp_path):
    operator.groups.add(Group.objects.get(name="Operators"))
    with agents_file(tmp_path) as environment:
        server = serve(DORMOUSE_ENGINE="process", DORMOUSE_SUPERVISOR="embedded", **environment)
        tab = open_tab()
        tab.visit(server.url + "/agents/")
        enter_password(tab, "operator")
        tab.shows(".card .name", "works")
        act(tab, "Wake")
        tab.until("document.querySelector('.said')?.innerText.startsWith('works is ready, after ')")
        act(tab, "Put to sleep")
        tab.shows(".said", "works is asleep.")
        act(tab, "Disable…")
        tab.click("textbox", "Why")
        tab.type("model key rotated" + ENTER)
        tab.until("document.querySelector('.said')?.innerText.startsWith('works is disabled.')")
        assert tab.texts(SENTENCES)[0] == "works disabled by operator: model key rotated"


def act(tab: Tab, action: str) -> None:
    """Open the menu of the only card with the keyboard, and choose an action."""
    tab.evaluate("document.querySelector('.orders summary').focus()")
    tab.type(ENTER)
    tab.click("button", action)


def test_nothing_scrolls_sideways_at_320_px(server: Server, sign_in: SignIn):
    name = "planner-with-a-rather-long-name-that-never-breaks-" + "x" * 60
    Instance.objects.create(name=name, since=timezone.now(), label_error="y" * 300)
    fail("w" * 3000)
    tab = sign_in(server)
    is_live(tab)
    tab.resize(320, 640)
    tab.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_what_the_console_has_would_be_noticed(server: Server, sign_in: SignIn):
    tab = sign_in(server)
    tab.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: '1'}))")
    wait_for(lambda: tab.evaluate("1") and tab.firefox.complaints, what="the complaint")
    assert "Content-Security-Policy" in tab.firefox.complaints.pop()
