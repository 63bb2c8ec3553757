"""Whatever happens to the connection: afterwards every event is there once, and meanwhile the words are right."""

import re

from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from playwright.sync_api import Page, expect

from events.log import record
from events.models import EventLog
from tests.browser.proxy import Proxy
from tests.browser.seeing import LOST, SignIn, is_live, reload_with_a_stopped_clock, shows, state
from tests.servers import Server, wait_for


def listen(page: Page) -> None:
    """Record every text that the page shows of its connection, inside the page, because a text may be short-lived."""
    page.evaluate(
        """() => {
            const connection = document.getElementById('connection');
            window.said = [connection.innerText.trim()];
            const note = () => said.at(-1) === connection.innerText.trim() || said.push(connection.innerText.trim());
            new MutationObserver(note).observe(connection, {subtree: true, childList: true, characterData: true,
                attributes: true});
        }"""
    )


def said(page: Page) -> list[str]:
    found: list[str] = page.evaluate("said")
    return found


def test_a_server_killed_and_started_again(own_server: Server, sign_in: SignIn):
    page = sign_in(own_server)
    is_live(page)
    ids = [record("a.b").id]
    shows(page, ids)
    own_server.kill()
    state(page, LOST)
    shows(page, ids)
    ids += [record("a.b").id for _ in range(3)]
    own_server.start().wait_until_up()
    is_live(page)
    shows(page, ids)
    ids.append(record("a.b").id)
    shows(page, ids)


def test_a_server_that_is_restarted_in_good_order(own_server: Server, sign_in: SignIn):
    page = sign_in(own_server)
    is_live(page)
    own_server.restart()
    shows(page, [record("a.b").id])
    is_live(page)


def test_no_place_at_first(proxy: Proxy, sign_in: SignIn):
    proxy.refuse(503, only="/events")
    page = sign_in(proxy)
    state(page, LOST)
    ids = [record("a.b").id]
    proxy.heal()
    is_live(page)
    shows(page, ids)


def test_no_place_on_the_way_back(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    is_live(page)
    proxy.refuse(503)
    proxy.cut()
    state(page, LOST)
    ids = [record("a.b").id for _ in range(3)]
    proxy.heal()
    is_live(page)
    shows(page, ids)


def test_a_line_that_is_cut_and_at_once_whole_again_was_never_lost(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    is_live(page)
    listen(page)
    ids = [record("a.b").id]
    proxy.cut()
    ids.append(record("a.b").id)
    shows(page, ids)
    wait_for(lambda: proxy.streams >= 2, what="the second connection")
    is_live(page)
    assert said(page) == ["Live"]


def test_a_stalled_line_is_found_out_and_never_called_live(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    page.clock.install()
    page.reload()
    is_live(page)
    proxy.stall()
    ids = [record("a.b").id]
    page.clock.fast_forward("00:30")
    expect(page.locator("#connection")).not_to_have_text("Live", use_inner_text=True)
    wait_for(lambda: proxy.streams >= 3, what="another connection, which is stalled too")
    page.clock.fast_forward("00:30")
    state(page, LOST)
    shows(page, [])
    proxy.cut()
    proxy.heal()
    page.clock.fast_forward("00:40")
    is_live(page)
    shows(page, ids)


def test_live_is_not_said_any_longer_than_the_beat_may_take(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    reload_with_a_stopped_clock(page)
    proxy.stall()
    page.clock.run_for(21_000)
    assert page.locator("#connection").inner_text().strip() == "Live"
    page.clock.run_for(6_000)
    assert page.locator("#connection").inner_text().strip() == "Connecting…"


def test_a_tab_that_takes_over_does_not_say_live_any_longer_either(proxy: Proxy, sign_in: SignIn):
    leader = sign_in(proxy)
    reload_with_a_stopped_clock(leader)
    page = leader.context.new_page()
    page.goto(leader.url)
    is_live(page)
    proxy.asked.clear()
    proxy.stall()
    page.clock.run_for(24_500)
    leader.close()
    wait_for(lambda: proxy.streams >= 1, what="the takeover")
    assert page.locator("#connection").inner_text().strip() == "Live"
    page.clock.run_for(2_000)
    assert page.locator("#connection").inner_text().strip() == "Connecting…"


def test_it_comes_back_no_sooner_than_it_was_asked_to(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    is_live(page)
    proxy.refuse(503, retry_seconds=60)
    proxy.cut()
    state(page, LOST)
    assert int(page.locator("#connection").inner_text().split()[-2]) >= 30
    assert proxy.streams == 2


def test_what_becomes_of_the_connection_is_announced(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    is_live(page)
    spoken = page.locator("#announcer")
    proxy.refuse(503)
    proxy.cut()
    expect(spoken).to_have_text("Connection lost")
    proxy.heal()
    expect(spoken).to_have_text("Live again")
    page.locator("#pause").focus()
    Session.objects.all().delete()
    proxy.cut()
    expect(spoken).to_have_text("Signed out. Sign in to resume live updates")
    expect(page.get_by_role("link", name="Sign in to resume live updates")).to_be_focused()


def test_who_may_not_see_the_events_any_more_is_told_so(proxy: Proxy, sign_in: SignIn, operator: User):
    page = sign_in(proxy)
    is_live(page)
    operator.user_permissions.clear()
    proxy.cut()
    state(page, re.compile("^You may not see the events any more"))


def test_an_hour_asleep(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    page.clock.install()
    page.reload()
    is_live(page)
    shows(page, [])
    proxy.stall()  # a connection that has gone without being closed
    ids = [record("a.b").id for _ in range(120)]
    listen(page)
    page.clock.fast_forward("01:00:00")
    wait_for(lambda: len(said(page)) > 1, what="the page to notice")
    assert said(page)[1].startswith(("Connecting", "Connection lost"))
    proxy.cut()
    proxy.heal()
    is_live(page)
    shows(page, ids)


def test_an_hour_asleep_with_a_line_that_seems_whole(server: Server, sign_in: SignIn):
    page = sign_in(server)
    page.clock.install()
    page.reload()
    is_live(page)
    with page.expect_request("**/events?*"):
        page.clock.fast_forward("01:00:00")
    is_live(page)
    shows(page, [record("a.b").id])


def test_a_session_that_is_gone_is_asked_for_once(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy, "/agents/?failures=1")
    reload_with_a_stopped_clock(page)  # so that no request is under way
    proxy.asked.clear()
    Session.objects.all().delete()
    record("container.lazy_start_failed", instance="a", data={"error": "no"})
    state(page, "Signed out. Sign in to resume live updates")
    page.clock.fast_forward("10:00")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.clock.run_for(5000)
    for path in ("/agents/activity", "/agents/instances", "/events"):
        assert sum(f"GET {path}" in line for line in proxy.asked) <= 1, proxy.asked
    page.get_by_role("link", name="Sign in to resume live updates").click()
    expect(page).to_have_url(f"{proxy.url}/accounts/login/?next=/agents/%3Ffailures%3D1")


def test_a_session_that_is_gone_when_the_line_comes_back(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    is_live(page)
    record("a.b")
    expect(page.locator(".row")).to_have_count(1)
    Session.objects.all().delete()
    proxy.cut()
    state(page, "Signed out. Sign in to resume live updates")
    expect(page.locator(".row")).to_have_count(1)


def test_a_redirect_to_a_login_counts_as_signed_out(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    is_live(page)
    proxy.refuse(302, only="/events")
    proxy.cut()
    state(page, "Signed out. Sign in to resume live updates")
    assert proxy.streams == 2


def test_a_planned_end_is_followed_by_a_quiet_return(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    is_live(page)
    proxy.asked.clear()
    proxy.end_one_stream()
    page.reload()
    listen(page)
    wait_for(lambda: proxy.streams >= 2, what="the second connection")
    is_live(page)
    shows(page, [record("a.b").id])
    assert "Connection lost" not in str(said(page))
    assert proxy.streams == 2


def test_it_comes_back_with_its_cursor(server: Server, sign_in: SignIn):
    last = record("a.b").id
    page = sign_in(server)
    with page.expect_request(f"**/events?after={last}"):
        page.reload()


def test_rows_that_could_not_be_fetched_are_asked_for_again(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    is_live(page)
    proxy.refuse(503, only="/agents/activity")
    ids = [record("a.b").id]
    wait_for(lambda: any("/agents/activity" in line for line in proxy.asked), what="the rows to be asked for")
    proxy.heal()
    shows(page, ids)


def test_a_prune_that_overtakes_the_page_leaves_no_hole_in_it(proxy: Proxy, sign_in: SignIn):
    old = [record("a.b").id for _ in range(3)]
    page = sign_in(proxy)
    is_live(page)
    shows(page, old)
    proxy.refuse(503)
    proxy.cut()
    state(page, LOST)
    unseen, kept = [record("a.b").id for _ in range(4)], [record("a.b").id for _ in range(2)]
    EventLog.objects.prune(unseen[-1])
    proxy.heal()
    is_live(page)
    shows(page, kept)
    expect(page.get_by_text("Older events have been pruned from the log.")).to_be_visible()
    kept.append(record("a.b").id)
    shows(page, kept)


def test_a_prune_that_overtakes_a_page_that_is_read_moves_nothing_until_asked(proxy: Proxy, sign_in: SignIn):
    old = [record("a.b").id for _ in range(3)]
    page = sign_in(proxy)
    is_live(page)
    page.locator(".row .when").first.focus()
    proxy.refuse(503)
    proxy.cut()
    state(page, LOST)
    EventLog.objects.prune(record("a.b").id)
    proxy.heal()
    is_live(page)
    button = page.get_by_role("button", name="Show the newest events")
    expect(button).to_be_visible()
    shows(page, old)
    button.click()
    shows(page, [])
    expect(button).to_be_hidden()
