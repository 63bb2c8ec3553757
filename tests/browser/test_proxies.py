"""The page through nginx, Caddy and HAProxy, with their files in `deploy/`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from events.log import record
from tests.browser.conftest import PASSWORD
from tests.browser.seeing import is_live
from tests.deploy.conftest import Site, certificate, start_site
from tests.deploy.proxies import PROXIES

__all__ = ["certificate", "start_site"]


@pytest.fixture(params=PROXIES)
def site(request: pytest.FixtureRequest, operator: User, start_site: Callable[..., Site]) -> Iterator[Site]:
    with ExitStack() as stack:
        yield start_site(stack, request.param, "/dormouse")


def test_a_person_signs_in_and_the_page_is_live(site: Site, browse: Callable[..., Page]):
    page = browse(ignore_https_errors=True)  # Chromium would need the certificate in a store of its own
    page.goto(f"{site.url}/agents/")
    page.get_by_label("Username").fill("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    is_live(page)
    record("deploy.finished", instance="reviewer-default")
    expect(page.locator(".row .sentence")).to_have_text("Deploy finished · reviewer-default")
    assert page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
