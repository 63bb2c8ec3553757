"""The lifecycle on a real swarm: what is told of starts, stops and ends."""

import threading
from collections.abc import Iterator

import pytest

from lifecycle.models import EndNote, Instance
from lifecycle.supervision.supervisor import Supervisor
from lifecycle.transitions.lifecycle import Lifecycle
from tests.docker.support.from_outside import logged, types
from tests.servers import wait_for


@pytest.fixture
def supervised(transactional_db: None, lifecycle: Lifecycle) -> Iterator[Lifecycle]:
    """The same, with a supervisor."""
    ended = threading.Event()
    sweeping = threading.Thread(target=Supervisor(lifecycle).run, args=[ended])
    sweeping.start()
    yield lifecycle
    ended.set()
    sweeping.join()
    wait_for(lambda: not any(thread.name == "transition" for thread in threading.enumerate()))


def state_of(name: str) -> str:
    return Instance.objects.get(pk=name).state


def test_an_idle_service_is_scaled_to_0_and_that_is_told_once(supervised, services):
    name = services.create(idle_timeout="1s")
    supervised.waking.wake(name)
    wait_for(lambda: types(name) == ["lazy_started", "lazy_stopped"], what="the idle stop")
    assert (services.replicas(name), services.running(name), state_of(name)) == (0, [], "asleep")
    assert "unconfirmed" not in logged(name)[1].data


def test_a_task_that_is_killed_is_told_as_unobserved(supervised, services):
    name = services.create()
    supervised.waking.wake(name)
    services.kill(name)
    wait_for(lambda: types(name)[1:], what="the end")
    [_, exited] = logged(name)
    assert (exited.type, exited.data["exit_code"], exited.data["cause"]) == ("container.exited", 137, "exited")
    assert (exited.data["unobserved"], exited.data["run"]) == (True, 1)
    supervised.waking.wake(name)
    assert types(name) == ["lazy_started", "exited", "lazy_started"]


def test_what_a_person_scales_is_followed_and_no_event(supervised, services):
    name = services.create()
    services.scale(name, 1)
    wait_for(lambda: Instance.objects.filter(pk=name, state="ready", adopted=True).exists(), what="adopting")
    services.scale(name, 0)
    wait_for(lambda: state_of(name) == "asleep", what="sleep")
    supervised.waking.wake(name)
    services.scale(name, 0)
    wait_for(lambda: state_of(name) == "asleep", what="sleep")
    assert types(name) == ["lazy_started"]


def test_a_dispatch_at_once_after_a_person_has_scaled_to_0_tells_no_end(lifecycle, services):
    name = services.create()
    lifecycle.waking.wake(name)
    services.scale(name, 0)
    lifecycle.waking.wake(name)
    assert not EndNote.objects.exists()
    lifecycle.ending.tell_notes({})
    assert types(name) == ["lazy_started", "lazy_started"]


def test_a_service_that_is_removed_is_told_when_work_comes(lifecycle, services):
    name = services.create()
    lifecycle.waking.wake(name)
    services.remove(name)
    with pytest.raises(Exception, match="create the service again under this name"):
        lifecycle.waking.wake(name)
    assert logged(name)[-1].data["cause"] == "missing"
