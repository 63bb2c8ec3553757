"""What the Agents page says of a real engine that has lost agents, has none, or is away."""

import pytest
from pytest_django.asserts import assertContains, assertNotContains

from lifecycle.exceptions import EngineUnreachable
from lifecycle.supervision.reconciler import Reconciler

ADDRESS = "/agents/instances"
GONE = "The engine does not have these agents any more:"
HOW_TO = "No agents yet"


@pytest.fixture
def look(lifecycle, admin_client, settings):
    """Return a function that looks at the engine, and returns the page."""
    settings.DORMOUSE_ENGINE = "docker"
    reconciler = Reconciler(lifecycle)

    def look():
        reconciler.reconcile()
        return admin_client.get(ADDRESS)

    return look


def test_sleepers_that_a_prune_removed_are_named_and_those_that_ran_stay(lifecycle, containers, look):
    sleepers, awake = [containers.create() for _ in range(2)], containers.create()
    lifecycle.waking.wake(awake)
    assertNotContains(look(), GONE)
    containers.api.prune_containers()
    page = look()
    assertContains(page, GONE)
    for name in sleepers:
        assertContains(page, f"{name}</a>, since")
    assertNotContains(page, f"{awake}</a>, since")
    assertNotContains(page, HOW_TO)


def test_if_all_were_removed_that_is_said_and_not_how_to_have_one(containers, look):
    name = containers.create()
    look()
    containers.api.remove_container(name)
    page = look()
    assertContains(page, f"{name}</a>, since")
    assertNotContains(page, HOW_TO)


def test_one_that_is_made_again_is_not_named_any_more(containers, look):
    name = containers.create()
    look()
    containers.api.remove_container(name)
    assertContains(look(), GONE)
    containers.create(name=name)
    assertNotContains(look(), GONE)


def test_without_any_agent_it_says_how_to_have_one(look):
    assertContains(look(), HOW_TO)


def test_without_an_engine_it_says_that_alone(behind_proxy, proxy, admin_client, settings):
    settings.DORMOUSE_ENGINE = "docker"
    proxy.close()
    with pytest.raises(EngineUnreachable):
        Reconciler(behind_proxy).reconcile()
    page = admin_client.get(ADDRESS)
    assertContains(page, "the Docker Engine cannot be reached")
    assertNotContains(page, HOW_TO)
