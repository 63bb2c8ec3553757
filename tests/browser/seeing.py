"""What a person would see on the page."""

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from playwright.sync_api import Page, Request, expect

SignIn = Callable[..., Page]

#: What the browser does with a tab that is hidden, or shown again.
HIDE = """hidden => {
    Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});
    document.dispatchEvent(new Event('visibilitychange'));
}"""
LOST = re.compile(r"^Connection lost\. Retrying in \d+ s$")


def state(page: Page, words: str | re.Pattern[str]) -> None:
    """The connection is said to be so."""
    expect(page.locator("#connection")).to_have_text(words, use_inner_text=True)


def is_live(page: Page) -> None:
    state(page, "Live")


def loads_the_rest(page: Page) -> None:
    """Wait for the scripts that the page loads only after its stream."""
    expect(page.locator("html")).to_have_attribute("data-clipboard", "")


def weigh(page: Page) -> dict[str, int]:
    """Load the page anew without the cache. Return the bytes of each body by its path, without the stream."""
    page.context.new_cdp_session(page).send("Network.setCacheDisabled", {"cacheDisabled": True})
    finished: list[Request] = []  # not answers: the one to a request that the reload ends may never finish
    page.on("requestfinished", lambda request: finished.append(request))
    page.reload()
    is_live(page)
    page.wait_for_load_state("load")
    loads_the_rest(page)
    done = [request for request in finished if "/events" not in request.url]
    return {
        urlsplit(request.url)._replace(scheme="", netloc="").geturl(): request.sizes()["responseBodySize"]
        for request in done
    }


def shows(page: Page, ids: list[int]) -> None:
    """The rows of these events and no others, the newest on top."""
    rows = page.locator(".row")
    expect(rows).to_have_count(len(ids))
    assert rows.evaluate_all("rows => rows.map(row => +row.dataset.id)") == ids[::-1]


def rows(page: Page, count: int = 1000) -> list[str]:
    """Return the timeline as HTML, day by day."""
    found: list[str] = page.evaluate(
        """count => [...document.querySelectorAll('#timeline h3, #timeline .row')].map(part => part.outerHTML)
            .slice(0, count)""",
        count,
    )
    return found


def reload_with_a_stopped_clock(page: Page) -> None:
    """Let only `page.clock.run_for` move the clock of the page, and of every tab of its browser, from the load on.

    All of them have then heard from the server at the same moment, however busy the machine is.
    """
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 1)
    page.reload()
    is_live(page)
