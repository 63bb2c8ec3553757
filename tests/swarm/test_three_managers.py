"""A swarm of three managers, of which two are killed. It takes minutes: DORMOUSE_LONG=1."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from docker.errors import NotFound

from lifecycle.models import EngineStatus
from tests.conftest import need
from tests.docker.support.engine_log import LONG
from tests.docker.support.from_outside import WORK, logged, types
from tests.servers import Server, wait_for
from tests.swarm.support import HOST, HOW, Services, connect, load_image

pytestmark = pytest.mark.skipif(not LONG, reason="a swarm of three managers: DORMOUSE_LONG=1")

#: Another leader is elected, and the nodes find it, within a minute; on a busy machine it takes longer.
PATIENCE_SECONDS = 300
NODES = ("manager", "second", "third")


class Managers:
    """Three nodes, all of them managers. They are brought back after each test."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.apis = {node: connect(self.host(node)) for node in NODES}
        self.ids = {node: api.info()["Swarm"]["NodeID"] for node, api in self.apis.items()}

    def host(self, node: str) -> str:
        return f"unix://{self.place / node / 'docker.sock'}"

    @property
    def hosts(self) -> str:
        """As in DORMOUSE_SWARM_MANAGERS."""
        return ",".join(self.host(node) for node in NODES)

    def leader(self) -> str:
        """Return the node that leads. All of them run."""
        nodes = self.apis["manager"].nodes()
        leading = next(one["ID"] for one in nodes if (one.get("ManagerStatus") or {}).get("Leader"))
        return next(node for node, id in self.ids.items() if id == leading)

    def kill(self, *nodes: str) -> None:
        for node in nodes:
            subprocess.run([".ci/swarm", "kill", self.place, node], check=True, timeout=60)

    def bring_back(self) -> None:
        for node in NODES:
            if not (self.place / node / "docker.pid").exists():
                command = [".ci/swarm", "revive", str(self.place), node]
                subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL)
        wait_for(self._are_all_there, PATIENCE_SECONDS, what="the managers to come back")

    def _are_all_there(self) -> bool:
        with contextlib.suppress(Exception):  # there is no leader yet
            nodes = self.apis["manager"].nodes()
            return all(one["ManagerStatus"]["Reachability"] == "reachable" for one in nodes) and all(
                one["Status"]["State"] == "ready" for one in nodes
            )
        return False


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


def on(managers: Managers, node: str) -> dict[str, tuple[str, ...]]:
    return {"constraints": (f"node.id=={managers.ids[node]}",)}


def dispatch(server: Server, name: str, work: str) -> httpx.Response:
    url = f"{server.url}/api/instances/{name}/dispatch"
    return httpx.post(url, content=work, headers=server.bearer, timeout=PATIENCE_SECONDS)


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
