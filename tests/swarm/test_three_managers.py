"""A swarm of three managers, of which one or two are killed or cut off. It takes minutes: DORMOUSE_LONG=1."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.errors import NotFound

from lifecycle.models import EngineStatus, Lease
from tests.conftest import need
from tests.docker.support.engine_log import LONG
from tests.docker.support.from_outside import WORK, logged, types
from tests.servers import wait_for
from tests.swarm.support import HOST, HOW, Services, load_image
from tests.swarm.three_managers import NODES, PATIENCE_SECONDS, Agents, Managers, dispatch, on

pytestmark = pytest.mark.skipif(not LONG, reason="a swarm of three managers: DORMOUSE_LONG=1")


@pytest.fixture(scope="module")
def three() -> Iterator[Managers]:
    need("swarm", HOST, HOW)
    place = Path(tempfile.mkdtemp())
    try:
        subprocess.run([".ci/swarm", "start", place, "--managers", "3"], check=True, timeout=120, capture_output=True)
        found = Managers(place)
        for api in found.apis.values():
            load_image(api)
        yield found
    finally:
        subprocess.run([".ci/swarm", "stop", place], check=True, timeout=120)
        shutil.rmtree(place)


@pytest.fixture
def managers(three: Managers) -> Iterator[Managers]:
    yield three
    three.bring_back()


@pytest.fixture
def services(managers: Managers) -> Iterator[Services]:
    """Makes services through any manager, also after one was killed."""
    found = Services(managers.apis["manager"])
    yield found
    managers.bring_back()
    found.api = managers.apis["manager"]
    found.remove_all()


@pytest.fixture
def servers(serve, managers):
    """Two processes, as behind a load balancer. Each test has a database of its own, so no mark of another one's."""
    with contextlib.suppress(NotFound):
        managers.apis["manager"].remove_config("dormouse-mark")
    environment = {"DORMOUSE_ENGINE": "swarm", "DORMOUSE_SUPERVISOR": "embedded"}
    found = [serve(**environment, DORMOUSE_SWARM_MANAGERS=managers.hosts) for _ in range(2)]
    yield found
    for server in found:
        print(server.log.read_text())  # pytest shows it with a failure


@contextlib.contextmanager
def all_under_way(agents: Agents) -> Iterator[None]:
    """Inside, on each node one agent works, one falls idle, one is woken, and one is put to sleep while work waits.

    At the end all have answered, and those that worked have been asked only once.
    """
    busy, falling_idle = agents.create(TAKES="20"), agents.create(TAKES="3")
    stopping, waking = agents.create(STOP="9"), agents.create(BOOT="9")
    with agents.working(*busy):
        wait_for(lambda: Lease.objects.count() == 2, what="work in flight")
        with agents.working(*stopping):
            pass
        wait_for(lambda: agents.states(stopping) == {"stopping"}, what="the stops")
        with agents.working(*falling_idle, *stopping):
            wait_for(lambda: agents.states(falling_idle) == {"ready"}, what="more work in flight")
            with agents.working(*waking):
                wait_for(lambda: agents.states(waking) == {"starting"}, what="the starts")
                assert agents.states(stopping) == {"stopping"}
                assert Lease.objects.filter(instance__in=busy).count() == 2
                yield
    assert not any(agents.problems[name] for name in busy)


@pytest.mark.parametrize("action", ["kill", "kill-engine", "cut-off"])
def test_when_the_leader_is_gone_nothing_is_lost_and_nothing_is_told_twice(servers, services, managers, action):
    leader = managers.leader()
    nodes = [node for node in NODES if node != leader]
    with contextlib.closing(Agents(servers, services, managers, nodes)) as agents:
        with all_under_way(agents):
            managers.kill(leader, action=action)
        agents.wait_until_asleep()
        agents.work_and_fall_asleep()
        managers.bring_back()
        agents.work_and_fall_asleep()
        for name in agents.nodes:
            agents.assert_all_is_told_once(name, runs=3)
            agents.assert_the_engine_saw_the_same(name)
    assert not Lease.objects.exists()
    assert not any("Traceback" in server.log.read_text() for server in servers)


def test_while_the_quorum_is_lost_agents_that_run_still_answer(servers, services, managers):
    leader = managers.leader()
    survivor, other = (node for node in NODES if node != leader)
    services.api = managers.apis[survivor]
    awake = services.create(idle_timeout="1h", **on(managers, survivor), **WORK)
    sleeper = services.create(**on(managers, survivor), **WORK)
    for server in servers:
        assert dispatch(server, awake, "the work").status_code == 200
    managers.kill(leader, other)
    for number in range(4):
        assert dispatch(servers[number % 2], awake, f"work {number}").text == f"working on: work {number}\ndone\n"
    wait_for(
        lambda: "the quorum is lost" in EngineStatus.objects.get().error, PATIENCE_SECONDS, what="the page to say so"
    )
    refused = dispatch(servers[0], sleeper, "the work")
    assert (refused.status_code, refused.json()["cause"]) == (503, "engine_unreachable")
    assert "the quorum is lost" in refused.json()["error"]
    assert dispatch(servers[1], awake, "the last").text == "working on: the last\ndone\n"
    managers.bring_back()
    wait_for(lambda: EngineStatus.objects.get().error == "", PATIENCE_SECONDS, what="the page to say that it is over")
    assert dispatch(servers[0], sleeper, "the work").text == "working on: the work\ndone\n"
    assert (types(awake), types(sleeper)) == (["lazy_started"], ["lazy_start_failed", "lazy_started"])
    assert "quorum" in logged(sleeper)[0].data["error"]
