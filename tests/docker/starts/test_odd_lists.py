"""An engine's list with an entry that cannot be read: the sweep goes on with all others."""

import pytest

from lifecycle.models import EngineStatus, Instance
from lifecycle.state_machine import State
from lifecycle.supervision.reconciler import Reconciler
from tests.docker.support.faulty_proxy import Canned
from tests.docker.support.from_outside import types
from tests.lifecycle.conftest import stop_idle
from tests.servers import wait_for

#: What is changed in the entry of one container. None: the whole entry is null.
ODD = {
    "an empty list of names": {"Names": []},
    "null for its names": {"Names": None},
    "a number for its names": {"Names": 3},
    "a state that nobody knows": {"State": "hibernating"},
    "null for its labels": {"Labels": None},
    "null": None,
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_one_odd_entry_costs_no_other_its_sleep(behind_proxy, proxy, containers, change, caplog):
    name, odd = containers.create(idle_timeout="1ms"), containers.create()
    behind_proxy.waking.wake(name)
    listed = containers.api.containers(all=True)
    entries = [change and one | change if one["Names"] == [f"/{odd}"] else one for one in listed]
    assert entries != listed
    proxy.answer("GET", "/containers/json$", Canned(200, entries))
    reconciler = Reconciler(behind_proxy)
    for _ in range(2):
        reconciler.reconcile()
    assert EngineStatus.objects.get().error == ""
    wait_for(lambda: stop_idle(behind_proxy) or "lazy_stopped" in types(name), what="the sleep of the other one")
    assert Instance.objects.get(pk=name).state == State.ASLEEP
    assert len([line for line in caplog.messages if "is ignored" in line or "has no name" in line]) <= 1


def test_one_that_others_link_to_has_its_own_name(lifecycle, containers):
    """The engine then lists it under several names, of which `/other/alias` belongs to the link."""
    name = containers.create()
    containers.api.start(name)
    other = containers.create(host_config={"links": {name: "alias"}})
    containers.api.start(other)
    assert [f"/{other}/alias"] == [
        found for one in containers.api.containers() for found in one["Names"] if found.count("/") > 1
    ]
    assert sorted(one.name for one in lifecycle.engine.instances()) == sorted([name, other])
