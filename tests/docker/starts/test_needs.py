"""Containers that need others, on a real engine: a diamond of four, and what goes wrong in it."""

import httpx
import pytest

from lifecycle.models import Instance
from lifecycle.state_machine import State
from tests.docker.support.from_outside import WORK, dispatch, logged, types
from tests.servers import DEADLINE_SECONDS, wait_for


@pytest.fixture
def diamond(containers):
    """The names of four: the first needs the second and the third, and those need the last."""
    last = containers.create(idle_timeout="500ms", environment={"BOOT": "1"}, **WORK)
    left, right = (containers.create(idle_timeout="500ms", needs=last, **WORK) for _ in range(2))
    first = containers.create(idle_timeout="500ms", needs=f"{left}, {right}", **WORK)
    return first, left, right, last


def event(name, type):
    (found,) = [one for one in logged(name) if one.type == f"container.{type}"]
    return found


def test_a_diamond_is_woken_from_its_foot_and_put_to_sleep_from_its_top(server, diamond):
    first, left, right, last = diamond
    assert dispatch(server, first, "x").text == "working on: x\ndone\n"
    wait_for(lambda: types(last) == ["lazy_started", "lazy_stopped"], what="the last one's sleep")
    assert [types(name) for name in diamond] == [["lazy_started", "lazy_stopped"]] * 4
    started = {name: event(name, "lazy_started") for name in diamond}
    assert started[last].id < min(started[left].id, started[right].id)
    assert max(started[left].id, started[right].id) < started[first].id
    assert [started[name].data["trigger"] for name in diamond] == ["dispatch", "needed", "needed", "needed"]
    data = started[first].data
    assert 1000 <= started[last].data["latency_ms"] <= data["needs_ms"] <= data["latency_ms"]
    stopped = {name: event(name, "lazy_stopped").id for name in diamond}
    assert stopped[first] < min(stopped[left], stopped[right])
    assert max(stopped[left], stopped[right]) < stopped[last]


def test_what_a_working_one_needs_stays_awake_and_may_be_killed(server, containers):
    # Without a network: when a container leaves a bridge, packets of another one there may be lost for up to a minute.
    alone = {"network_mode": "none"}
    needed = containers.create(host_config=alone, exposed=False, ready="running", idle_timeout="500ms")
    name = containers.create(needs=needed, environment={"HOLD": "1"}, **WORK)
    url = f"{server.url}/api/instances/{name}/dispatch"
    with httpx.stream("POST", url, content="x", headers=server.bearer, timeout=DEADLINE_SECONDS) as answer:
        parts = answer.iter_text()
        next(parts)
        containers.api.kill(needed)
        wait_for(lambda: Instance.objects.filter(pk=needed, state=State.ASLEEP), what="its end to be seen")
        containers.touch(name, "/go")
        assert "".join(parts).endswith("done\n")
    assert "lazy_stopped" not in types(needed)
    assert dispatch(server, name).status_code == 200
    assert types(needed) == ["lazy_started", "lazy_started"]
    assert types(name) == ["lazy_started"]


def test_one_that_fails_or_is_missing_makes_a_503_that_names_it(server, containers):
    failing = containers.create(command=["sh", "-c", "exit 3"], **WORK)
    for needed, said in [(failing, "exited with code 3"), ("nobody", "which the engine does not have")]:
        name = containers.create(needs=needed, **WORK)
        answer = dispatch(server, name)
        assert (answer.status_code, answer.json()["cause"]) == (503, "dependency")
        assert needed in answer.json()["error"]
        assert said in answer.json()["error"]
        assert not containers.is_running(name)
        assert types(name) == ["lazy_start_failed"]


def test_a_circle_is_a_409_and_shown(server, containers):
    one = containers.create(needs="another", **WORK)
    other = containers.create(needs=one, **WORK)
    containers.api.rename(other, "another")
    containers.remove_too("another")
    answer = dispatch(server, one)
    assert answer.status_code == 409
    assert "is a circle" in answer.text
    wait_for(lambda: "is a circle" in Instance.objects.get(pk=one).label_error)
    assert types(one) == []
