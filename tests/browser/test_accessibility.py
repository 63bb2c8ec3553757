"""axe finds nothing wrong and nothing that it cannot decide: WCAG 2.0 to 2.2, A and AA, and best practice."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from events.log import record
from lifecycle.models import EngineStatus, Instance
from tests.browser.proxy import Proxy
from tests.browser.seeing import LOST, SignIn, is_live, state
from tests.npm import installed
from tests.servers import Server

pytestmark = pytest.mark.node

LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "forced colours": {"forced_colors": "active"},
    "320 px": {"viewport": {"width": 320, "height": 640}},
}
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]

Check = Callable[[Page], None]


@pytest.fixture(scope="session")
def axe() -> str:
    return (installed(Path(__file__).parent) / "axe-core/axe.min.js").read_text()


@pytest.fixture
def check(axe: str) -> Check:
    def run(page: Page) -> None:
        page.evaluate(axe)
        found = page.evaluate(
            """async tags => {
                const found = await axe.run(document, {runOnly: {type: 'tag', values: tags}});
                const named = results => results.map(({id, nodes}) =>
                    [id, ...nodes.map(node => node.target + ': ' + node.failureSummary)].join('\\n'));
                return {violations: named(found.violations), incomplete: named(found.incomplete),
                    passes: found.passes.length};
            }""",
            TAGS,
        )
        assert found["passes"] > 10
        assert (found["violations"], found["incomplete"]) == ([], [])

    return run


@pytest.fixture(params=list(LOOKS.values()), ids=list(LOOKS))
def look(request: pytest.FixtureRequest) -> dict[str, object]:
    return {"reduced_motion": "reduce", **request.param}


def seed() -> None:
    now = timezone.now()
    EngineStatus.objects.create(engine="process", asked=now, answered=now, error="no such socket")
    failure = {"run": 3, "at": now.isoformat(), "error": "exited with code 1"}
    Instance.objects.create(name="planner-default", since=now, run=3, failure=failure)
    Instance.objects.create(name="broken-labels", since=now, label_error="dormouse.port is “eighty”", label_warning="x")
    Instance.objects.create(name="reviewer-default", since=now, state="ready", last_used=now)
    Instance.objects.create(name="starter", since=now, state="starting")
    record("container.lazy_started", instance="reviewer-default", data={"latency_ms": 287})
    record("container.lazy_stopped", instance="designer-default", data={"idle_seconds": 725})
    data = {"error": "exited with code 1", "cause": "exited", "exit_code": 1, "log_tail": "Traceback\n" * 60}
    record("container.lazy_start_failed", instance="planner-default", data=data)


def test_with_details_and_the_filter_open_and_the_engine_down(server: Server, sign_in: SignIn, check: Check, look):
    seed()
    page = sign_in(server, **look)
    is_live(page)
    for summary in page.locator("summary").all():
        summary.click()
    check(page)


def test_with_200_agents_in_every_state(many: Server, sign_in: SignIn, check: Check, look):
    page = sign_in(many, **look)
    is_live(page)
    page.locator(".fold summary").click()
    page.locator(".row summary").first.click()
    page.evaluate("scrollTo(0, 0)")  # else axe cannot judge the row below the bar
    check(page)


def test_paused_and_filtered_with_nothing_to_show(server: Server, sign_in: SignIn, check: Check, look):
    page = sign_in(server, "/agents/?instance=planner-default&q=nothing", **look)
    is_live(page)
    page.get_by_role("button", name="Pause live updates").click()
    check(page)


@pytest.mark.parametrize(("fault", "words"), [("mute", "No live stream."), ("fail", "Events cannot be fetched")])
def test_stale(proxy: Proxy, sign_in: SignIn, check: Check, look, fault: str, words: str):
    if fault == "mute":
        proxy.mute("/events")
    page = sign_in(proxy, **look)
    if fault == "fail":
        is_live(page)
        proxy.refuse(500, only="/agents/activity")
        record("a.b")
    state(page, re.compile(words))
    check(page)


def test_with_rows_that_wait(server: Server, sign_in: SignIn, check: Check, look):
    seed()
    page = sign_in(server, **look)
    is_live(page)
    page.get_by_role("button", name="Pause live updates").click()
    record("a.b")
    expect(page.get_by_role("button", name="Show 1 new event")).to_be_visible()
    check(page)


def test_empty(server: Server, sign_in: SignIn, check: Check, look):
    page = sign_in(server, **look)
    is_live(page)
    check(page)


def test_reconnecting(proxy: Proxy, sign_in: SignIn, check: Check, look):
    seed()
    proxy.refuse(503, only="/events")
    page = sign_in(proxy, **look)
    state(page, LOST)
    check(page)


def test_signed_out(proxy: Proxy, sign_in: SignIn, check: Check, look):
    proxy.refuse(302, only="/events")
    page = sign_in(proxy, **look)
    state(page, "Signed out. Sign in to resume live updates")
    check(page)


def test_the_login_with_an_error(server: Server, browse: Callable[..., Page], check: Check, look):
    page = browse(**look)
    page.goto(server.url + "/agents/")
    page.get_by_label("Username").fill("operator")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check(page)


@pytest.mark.parametrize("address", ["/agents/activity/{id}", "/agents/?before=9999999", "/agents/nothing"])
def test_the_other_pages(server: Server, sign_in: SignIn, check: Check, complaints: list[str], look, address: str):
    seed()
    page = sign_in(server, **look)
    page.goto(server.url + address.format(id=page.locator(".row.alert").get_attribute("data-id")))
    check(page)
    complaints[:] = [complaint for complaint in complaints if "404" not in complaint]
