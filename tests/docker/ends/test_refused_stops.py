"""Stops and pauses that the engine refuses: the agent stays usable, and they are tried again."""

from datetime import datetime, timedelta

import pytest

from lifecycle.models import Instance
from lifecycle.state_machine import State
from tests.docker.support.faulty_proxy import Canned
from tests.docker.support.from_outside import logged, types
from tests.lifecycle.conftest import stop_idle
from tests.servers import wait_for

HTML = "<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>"
FILTERED = (
    "stop was refused with 403, probably by a filter in front of the engine; docs/docker-engine.md lists what must be"
)


@pytest.mark.parametrize(
    ("sleep", "refused", "said"),
    [
        ("stop", Canned(500, {"message": "cannot stop container: x: permission denied"}), "permission denied"),
        ("stop", Canned(403, HTML, "text/html"), FILTERED),
        ("stop", Canned(500, HTML, "text/html"), "the answer 500 to stop is not the Docker Engine's"),
        ("stop", Canned(200, HTML, "text/html"), "the answer 200 to stop is not the Docker Engine's"),
        ("pause", Canned(500, {"message": "Cannot pause container x: unable to freeze: unknown"}), "unable to freeze"),
    ],
    ids=["refused", "filtered", "nonsense", "a page", "not paused"],
)
def test_a_stop_that_the_engine_cannot_make_leaves_a_usable_agent(
    behind_proxy, proxy, containers, sleep, refused, said
):
    name = containers.create(idle_timeout="0.1s", sleep=sleep)
    behind_proxy.waking.wake(name)
    proxy.answer("POST", f"/{sleep}$", refused)
    (idle,) = wait_for(behind_proxy.stopping.find_idle)
    behind_proxy.stopping.stop_idle(idle)
    row = Instance.objects.get(pk=name)
    assert (row.state, row.owner, row.stop_failure["tries"]) == (State.READY, None, 1)
    assert said in row.stop_failure["error"] == logged(name)[-1].data["error"]
    leased = behind_proxy.leases.take(name)
    assert leased
    behind_proxy.leases.give_back(leased.lease)
    assert behind_proxy.stopping.find_idle() == []
    assert types(name) == ["lazy_started", "lazy_stop_failed"]


def test_a_stop_that_is_refused_each_time_is_tried_with_growing_pauses_until_it_succeeds(
    behind_proxy, proxy, containers
):
    name = containers.create(idle_timeout="0.1s", stop_timeout="0s")
    behind_proxy.waking.wake(name)
    rule = proxy.answer("POST", "/stop$", Canned(500, {"message": "cannot stop container: permission denied"}, times=3))
    pauses = []
    while rule.count < 3:
        wait_for(behind_proxy.stopping.find_idle)
        stop_idle(behind_proxy)
        failure = Instance.objects.get(pk=name).stop_failure
        pauses.append(datetime.fromisoformat(failure["next_try"]) - datetime.fromisoformat(failure["at"]))
        Instance.objects.filter(pk=name).update(stop_failure=failure | {"next_try": failure["at"]})
    assert pauses == [timedelta(minutes=minutes) for minutes in (1, 2, 4)]
    wait_for(lambda: stop_idle(behind_proxy) or not containers.is_running(name), what="its sleep")
    assert types(name) == ["lazy_started", "lazy_stop_failed", "lazy_stopped"]
    assert Instance.objects.get(pk=name).stop_failure is None


def test_a_stop_that_was_made_although_it_was_refused_is_a_stop(behind_proxy, proxy, containers):
    name = containers.create(idle_timeout="0.1s", stop_timeout="0s")
    behind_proxy.waking.wake(name)
    denied = {"message": "tried to kill container, but did not receive an exit event"}
    proxy.answer("POST", "/stop$", Canned(500, denied, passes_on=True))
    wait_for(lambda: stop_idle(behind_proxy) or len(types(name)) == 2, what="its sleep")
    assert types(name) == ["lazy_started", "lazy_stopped"]
    assert not containers.is_running(name)
