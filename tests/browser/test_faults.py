"""Whatever happens to the connection: afterwards every event is there once, and meanwhile the words are right."""

import re
from collections.abc import Callable

from django.contrib.sessions.models import Session
from playwright.sync_api import Page, Request, expect

from events.log import record
from tests.servers import Server, wait_for

SignIn = Callable[..., Page]

LOST = re.compile(r"^Connection lost\. Retrying in \d+ s$")


def shows(page: Page, ids: list[int]) -> None:
    rows = page.locator(".row")
    expect(rows).to_have_count(len(ids))
    assert rows.evaluate_all("rows => rows.map(row => +row.dataset.id)") == ids[::-1]


def state(page: Page, words: str | re.Pattern[str]) -> None:
    expect(page.locator("#connection")).to_have_text(words)


def test_a_server_killed_and_started_again(server: Server, sign_in: SignIn):
    page = sign_in(server)
    state(page, "Live")
    ids = [record("a.b").id]
    shows(page, ids)
    server.kill()
    state(page, LOST)
    ids += [record("a.b").id for _ in range(3)]
    server.start().wait_until_up()
    state(page, "Live")
    shows(page, ids)
    ids.append(record("a.b").id)
    shows(page, ids)


def test_a_server_that_is_restarted_in_good_order(server: Server, sign_in: SignIn):
    page = sign_in(server)
    state(page, "Live")
    server.restart()
    ids = [record("a.b").id]
    shows(page, ids)
    state(page, "Live")


def test_no_place_at_first(server: Server, sign_in: SignIn):
    page = sign_in(server)
    state(page, "Live")
    page.route("**/events?*", lambda route: route.fulfill(status=503, headers={"Retry-After": "1"}), times=1)
    page.reload()
    state(page, LOST)
    state(page, "Live")
    ids = [record("a.b").id]
    shows(page, ids)


def test_no_place_on_the_way_back(server: Server, sign_in: SignIn):
    page = sign_in(server)
    state(page, "Live")
    page.route("**/events?*", lambda route: route.fulfill(status=503), times=1)
    server.kill()
    ids = [record("a.b").id]
    server.start().wait_until_up()
    shows(page, ids)
    state(page, "Live")


def test_a_session_that_is_gone_is_asked_for_once(server: Server, sign_in: SignIn):
    page = sign_in(server, "/agents/?failures=1")
    state(page, "Live")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    Session.objects.all().delete()
    record("container.lazy_start_failed", instance="a", data={"error": "no"})
    state(page, "Signed out. Sign in to resume live updates")
    count = len(asked)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.evaluate("new Promise(done => setTimeout(done, 100))")
    assert len(asked) == count <= 2
    page.get_by_role("link", name="Sign in to resume live updates").click()
    expect(page).to_have_url(f"{server.url}/accounts/login/?next=/agents/%3Ffailures%3D1")


def test_a_redirect_to_a_login_counts_as_signed_out(server: Server, sign_in: SignIn):
    page = sign_in(server)
    page.route("**/events?*", lambda route: route.fulfill(status=302, headers={"Location": "/accounts/login/"}))
    page.reload()
    state(page, "Signed out. Sign in to resume live updates")


def test_a_planned_end_is_followed_by_a_quiet_return(server: Server, sign_in: SignIn):
    page = sign_in(server)
    state(page, "Live")
    end = 'event: stream-open\nid: 0\ndata: {"cursor": 0}\n\nevent: stream-end\nid: 0\ndata: {"reason": "limit"}\n\n'
    page.route("**/events?*", lambda route: route.fulfill(content_type="text/event-stream", body=end), times=1)
    opened: list[Request] = []
    page.on("request", lambda request: opened.append(request) if "/events?" in request.url else None)
    page.reload()
    wait_for(lambda: page.evaluate("1") and len(opened) == 2, what="the second connection")
    state(page, "Live")
    shows(page, [record("a.b").id])


def test_it_comes_back_with_its_cursor(server: Server, sign_in: SignIn):
    last = record("a.b").id
    page = sign_in(server)
    with page.expect_request(f"**/events?after={last}"):
        page.reload()
