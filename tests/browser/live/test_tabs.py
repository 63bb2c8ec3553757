"""Many tabs of one browser, and hidden tabs."""

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from events.log import record
from tests.browser.proxy import Proxy
from tests.browser.seeing import HIDE, LOST, SignIn, is_live, reload_with_a_stopped_clock, shows, state
from tests.servers import Server, wait_for


def tabs(first: Page, count: int) -> list[Page]:
    context: BrowserContext = first.context
    found = [first]
    for _ in range(count - 1):
        page = context.new_page()
        page.goto(first.url)
        found.append(page)
    return found


def test_eight_tabs_are_live_over_one_stream(proxy: Proxy, sign_in: SignIn):
    pages = tabs(sign_in(proxy), 8)
    for page in pages:
        is_live(page)
    ids = [record("a.b").id]
    for page in pages:
        shows(page, ids)
    assert proxy.streams == 1


def test_another_tab_follows_when_the_one_that_did_is_closed(proxy: Proxy, sign_in: SignIn):
    pages = tabs(sign_in(proxy), 3)
    for page in pages:
        is_live(page)
    pages[0].close()
    wait_for(lambda: proxy.streams >= 2, what="another tab")
    ids = [record("a.b").id]
    for page in pages[1:]:
        is_live(page)
        shows(page, ids)
    assert proxy.streams == 2


def test_all_tabs_tell_of_a_lost_connection_and_are_whole_afterwards(proxy: Proxy, sign_in: SignIn):
    pages = tabs(sign_in(proxy), 3)
    for page in pages:
        is_live(page)
    proxy.refuse(503)
    proxy.cut()
    for page in pages:
        state(page, LOST)
    ids = [record("a.b").id for _ in range(3)]
    proxy.heal()
    for page in pages:
        is_live(page)
        shows(page, ids)


def test_signed_out_is_said_in_all_tabs_and_asked_once(proxy: Proxy, sign_in: SignIn):
    pages = tabs(sign_in(proxy), 3)
    for page in pages:
        is_live(page)
    proxy.refuse(302, only="/events")
    proxy.cut()
    for page in pages:
        state(page, "Signed out. Sign in to resume live updates")
    assert proxy.streams == 2


def test_a_tab_that_hears_nothing_takes_over(proxy: Proxy, sign_in: SignIn):
    leader, follower = tabs(sign_in(proxy), 2)
    for page in (leader, follower):
        is_live(page)
    follower.clock.install()
    follower.evaluate("0")
    leader.evaluate("BroadcastChannel.prototype.postMessage = () => {}")  # as one that the browser has frozen
    follower.reload()
    is_live_after = [record("a.b").id]
    follower.clock.fast_forward("00:30")
    is_live(follower)
    shows(follower, is_live_after)
    is_live_after.append(record("a.b").id)
    shows(follower, is_live_after)


@pytest.fixture
def without_locks(proxy: Proxy, sign_in: SignIn) -> Page:
    """Take the locks away, as on plain HTTP from another machine."""
    page = sign_in(proxy)
    page.context.add_init_script("Object.defineProperty(navigator, 'locks', {value: undefined})")
    page.reload()
    is_live(page)
    proxy.asked.clear()
    return page


def test_without_locks_there_is_one_stream_too(proxy: Proxy, without_locks: Page):
    pages = tabs(without_locks, 7)
    ids = [record("a.b").id]
    for page in pages:
        is_live(page)
        shows(page, ids)
    assert proxy.streams == 0


def test_without_locks_another_tab_follows_when_the_one_that_did_is_closed(proxy: Proxy, without_locks: Page):
    pages = tabs(without_locks, 3)
    for page in pages:
        is_live(page)
    pages[0].close()
    wait_for(lambda: proxy.streams >= 1, what="another tab")
    ids = [record("a.b").id]
    for page in pages[1:]:
        is_live(page)
        shows(page, ids)


def test_signing_in_again_in_one_tab_revives_the_others(proxy: Proxy, sign_in: SignIn):
    pages = tabs(sign_in(proxy), 2)
    for page in pages:
        is_live(page)
    proxy.refuse(302, only="/events")
    proxy.cut()
    for page in pages:
        state(page, "Signed out. Sign in to resume live updates")
    proxy.heal()
    pages[0].reload()
    for page in pages:
        is_live(page)
    pages[0].close()
    shows(pages[1], [record("a.b").id])


def test_a_hidden_tab_counts_failures_in_its_title_and_icon(server: Server, sign_in: SignIn):
    page = sign_in(server)
    is_live(page)
    page.evaluate(HIDE, True)
    record("container.lazy_start_failed", instance="a", data={"error": "no"})
    record("container.lazy_started", instance="a", data={"latency_ms": 3})
    expect(page).to_have_title("(1) Agents · Dormouse")
    expect(page.locator("link[rel=icon]")).to_have_attribute("href", "/static/agents_ui/dormouse-alert.svg")
    expect(page.locator(".row")).to_have_count(0)
    page.evaluate(HIDE, False)
    expect(page).to_have_title("Agents · Dormouse")
    expect(page.locator("link[rel=icon]")).to_have_attribute("href", f"{server.url}/static/agents_ui/dormouse.svg")
    expect(page.locator(".row")).to_have_count(2)


def test_a_hidden_tab_does_not_ask_for_the_instances(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    reload_with_a_stopped_clock(page)  # so that no request is under way
    page.evaluate(HIDE, True)
    proxy.asked.clear()
    page.clock.run_for("00:20")
    assert not any("/agents/instances" in line for line in proxy.asked)
    page.evaluate(HIDE, False)
    wait_for(lambda: any("/agents/instances" in line for line in proxy.asked), what="the instances")
