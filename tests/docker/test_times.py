"""Every time that the JSON API shows has one form, whatever happened on the engine."""

import re

import pytest

from lifecycle.exceptions import StartFailed
from lifecycle.models import Instance
from tests.docker.support.faulty_proxy import Canned
from tests.lifecycle.conftest import stop_idle
from tests.servers import wait_for

#: As in every event: UTC, to the microsecond at most.
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
LOOKS_LIKE_A_TIME = re.compile(r"\d{4}-\d\d-\d\dT")


def times(found, path=""):
    """Return each text below `found` that looks like a time, by its path."""
    if isinstance(found, dict):
        return {at: text for key, value in found.items() for at, text in times(value, f"{path}.{key}").items()}
    if isinstance(found, list):
        return {at: text for value in found for at, text in times(value, f"{path}[]").items()}
    return {path[1:]: found} if isinstance(found, str) and LOOKS_LIKE_A_TIME.match(found) else {}


@pytest.fixture
def shown(admin_client):
    def shown(name):
        return times(admin_client.get(f"/api/instances/{name}").json())

    return shown


def check(found, *wanted):
    assert {at: text for at, text in found.items() if not TIME.fullmatch(text)} == {}
    assert set(wanted) <= set(found)


def test_of_a_failed_start(lifecycle, containers, shown):
    name = containers.create(command=["/bin/false"])
    with pytest.raises(StartFailed):
        lifecycle.waking.wake(name)
    check(shown(name), "since", "last_failure.at")


def test_of_a_stop_that_the_engine_refused(behind_proxy, proxy, containers, shown):
    name = containers.create(idle_timeout="0.1s")
    behind_proxy.waking.wake(name)
    proxy.answer("POST", "/stop$", Canned(500, {"message": "cannot stop container: x: permission denied"}))
    wait_for(behind_proxy.stopping.find_idle)
    stop_idle(behind_proxy)
    check(shown(name), "since", "stop_failure.at", "stop_failure.next_try")


@pytest.mark.usefixtures("transactional_db")  # another thread writes it
def test_of_work_that_failed(lifecycle, containers, shown):
    name = containers.create(idle_timeout="1h")
    lifecycle.waking.wake(name)
    lifecycle.work_failures.report(name, status=502, error="broke off", seconds=1.5)
    wait_for(lambda: Instance.objects.get(pk=name).work_failure)
    check(shown(name), "since", "sleeps_at", "work_failure.at")
