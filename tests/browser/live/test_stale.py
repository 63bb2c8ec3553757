"""The page is fresh, or says that it is not: a stream that is buffered or blocked, and failed fetches."""

import re

import pytest
from django.db import transaction
from django.utils import timezone
from playwright.sync_api import expect

from events.log import record
from lifecycle.models import EngineStatus, Instance
from tests.browser.proxy import Proxy
from tests.browser.seeing import SignIn, is_live, shows, state

POLLING = "No live stream. Updated every 10 s"
DENY = {
    "locks that reject": "navigator.locks.request = () => Promise.reject(new DOMException('no', 'SecurityError'))",
    "no locks, and no storage": """
        Object.defineProperty(navigator, 'locks', {value: undefined});
        Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }});
    """,
}


def test_a_stream_that_a_proxy_buffers_is_replaced_by_requests(proxy: Proxy, sign_in: SignIn):
    proxy.mute("/events")
    page = sign_in(proxy)
    ids = [record("a.b").id]
    state(page, POLLING)
    shows(page, ids)
    ids.append(record("a.b").id)
    shows(page, ids)
    proxy.heal()
    proxy.cut()
    is_live(page)
    shows(page, [*ids, record("a.b").id])


def test_a_stream_that_the_browser_blocks_is_replaced_by_requests(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    page.route("**/events?*", lambda route: route.abort("blockedbyclient"))
    page.reload()
    ids = [record("a.b").id]
    state(page, POLLING)
    shows(page, ids)
    page.unroute("**/events?*")
    is_live(page)


@pytest.mark.parametrize(("address", "words"), [("activity", "Events"), ("instances", "Agents")])
def test_live_is_not_said_while_a_part_of_the_page_cannot_be_fetched(proxy: Proxy, sign_in: SignIn, address, words):
    page = sign_in(proxy)
    is_live(page)
    proxy.refuse(500, only=f"/agents/{address}")
    id = record("a.b").id
    state(page, f"{words} cannot be fetched (500). Retrying")
    proxy.heal()
    is_live(page)
    shows(page, [id])


def test_failed_fetches_of_rows_are_not_repeated_without_a_pause(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    is_live(page)
    proxy.refuse(500, only="/agents/activity")
    record("a.b")
    state(page, "Events cannot be fetched (500). Retrying")
    proxy.asked.clear()
    page.wait_for_timeout(8000)
    assert sum("/agents/activity" in line for line in proxy.asked) <= 4


@pytest.mark.parametrize("denied", DENY)
def test_a_browser_that_denies_what_the_election_needs_has_one_stream_for_the_tab(
    proxy: Proxy, sign_in: SignIn, denied: str
):
    page = sign_in(proxy)
    is_live(page)
    page.add_init_script(DENY[denied])
    proxy.asked.clear()
    page.reload()
    is_live(page)
    shows(page, [record("a.b").id])
    page.wait_for_timeout(3000)
    assert proxy.streams == 1


def test_a_pointer_that_does_not_move_holds_rows_no_longer_than_20_seconds(proxy: Proxy, sign_in: SignIn):
    first = record("a.b").id
    page = sign_in(proxy)
    is_live(page)
    page.locator(".row").hover()
    failed = record("container.lazy_start_failed", instance="a", data={"error": "no"}).id
    expect(page.get_by_role("button", name="Show 1 new event, 1 failed", exact=True)).to_be_visible()
    shows(page, [first])
    page.clock.install()
    page.clock.fast_forward("00:21")
    shows(page, [first, failed])


def test_the_announcer_counts_failures(proxy: Proxy, sign_in: SignIn):
    page = sign_in(proxy)
    is_live(page)
    with transaction.atomic():
        for number in range(3):
            record("container.lazy_start_failed", instance=f"agent-{number}", data={"error": "no"})
    expect(page.locator("#announcer")).to_have_text("3 new events, 3 failed")


def test_starting_shows_without_an_event(proxy: Proxy, sign_in: SignIn):
    EngineStatus.objects.update_or_create(
        engine="docker", defaults={"asked": timezone.now(), "answered": timezone.now()}
    )
    row = Instance.objects.create(name="slow", state="asleep", since=timezone.now(), present=True)
    page = sign_in(proxy)
    is_live(page)
    card = page.locator(".card")
    expect(card).to_have_class(re.compile("asleep"))
    page.clock.install()
    Instance.objects.filter(pk=row.pk).update(state="starting", version=row.version + 1)
    page.clock.fast_forward("00:01")
    expect(card).to_have_class(re.compile("starting"))
