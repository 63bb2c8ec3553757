"""Three nodes that are all managers, and agents on those that live when one of them is killed."""

import contextlib
import itertools
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from lifecycle.models import Instance
from tests.docker.support.engine_log import EngineLog
from tests.docker.support.from_outside import WORK, logged
from tests.servers import Server, wait_for
from tests.swarm.support import Services, connect

NODES = ("manager", "second", "third")
#: Another leader is elected, and the nodes find it, within a minute; on a busy machine it takes longer.
PATIENCE_SECONDS = 300
#: A new leader may leave a node without its tasks for minutes: a stop was told after 7 minutes.
SETTLED_SECONDS = 1200
#: The label with which a swarm says of a container whose it is.
OF_SERVICE = "com.docker.swarm.service.name"
#: Labels of agents that such a swarm can start.
PATIENT: dict[str, Any] = {"start_timeout": "2m", "idle_timeout": "1s", **WORK}


class Managers:
    """Three nodes, all of them managers. They are brought back after each test."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._gone: list[str] = []
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

    def kill(self, *nodes: str, action: str = "kill") -> None:
        """Kill nodes. The action may also be `kill-engine` or `cut-off`, as .ci/swarm says."""
        for node in nodes:
            self._gone.append(node)
            subprocess.run([".ci/swarm", action, self.place, node], check=True, timeout=60)

    def bring_back(self) -> None:
        while self._gone:
            command = [".ci/swarm", "revive", str(self.place), self._gone.pop()]
            subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL)
        wait_for(self._are_all_there, PATIENCE_SECONDS, what="the managers to come back")

    def _are_all_there(self) -> bool:
        with contextlib.suppress(Exception):  # there is no leader yet
            nodes = self.apis["manager"].nodes()
            return all(one["ManagerStatus"]["Reachability"] == "reachable" for one in nodes) and all(
                one["Status"]["State"] == "ready" for one in nodes
            )
        return False


def on(managers: Managers, node: str) -> dict[str, Any]:
    return {"constraints": (f"node.id=={managers.ids[node]}",)}


def dispatch(server: Server, name: str, work: str) -> httpx.Response:
    url = f"{server.url}/api/instances/{name}/dispatch"
    return httpx.post(url, content=work, headers=server.bearer, timeout=SETTLED_SECONDS)


class Agents:
    """Agents on some nodes, which answer their own names. They are dispatched to through each Dormouse in turn."""

    def __init__(self, servers: list[Server], services: Services, managers: Managers, nodes: list[str]) -> None:
        self._servers, self._services, self._managers = servers, services, managers
        services.api = managers.apis[nodes[0]]
        self._engines = {node: EngineLog(managers.apis[node]) for node in nodes}
        #: Which node each is on.
        self.nodes: dict[str, str] = {}
        #: By agent: what Dormouse answered in its place.
        self.problems: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def create(self, **environment):
        """Make an agent on each node."""
        made = {
            self._services.create(environment=environment, **on(self._managers, node), **PATIENT): node
            for node in self._engines
        }
        self.nodes |= made
        return list(made)

    @contextlib.contextmanager
    def working(self, *names: str) -> Iterator[None]:
        """Dispatch to each. At the end of the block wait until each has answered, and keep the problems before that."""
        with ThreadPoolExecutor(len(names)) as callers:
            servers = itertools.cycle(self._servers)
            asked = {name: callers.submit(_ask_until_it_answers, next(servers), name) for name in names}
            yield
        for name, answers in asked.items():
            *problems, last = answers.result()
            assert last.text == f"working on: {name}\ndone\n"
            self.problems[name] += [problem.json() for problem in problems]

    def work_and_fall_asleep(self) -> None:
        """Let each work once, and wait until all are asleep."""
        with self.working(*self.nodes):
            pass
        self.wait_until_asleep()

    def wait_until_asleep(self) -> None:
        wait_for(lambda: self.states(self.nodes) == {"asleep"}, SETTLED_SECONDS, what="the idle stops")

    def states(self, names: Iterable[str]) -> set[str]:
        return set(Instance.objects.filter(pk__in=names).values_list("state", flat=True))

    def assert_all_is_told_once(self, name: str, runs: int) -> None:
        """Assert that each of the runs has its events, and each failed start. There were at least `runs`."""
        told = logged(name)
        failed = [event for event in told if event.type == "container.lazy_start_failed"]
        ran = [event for event in told if event not in failed]
        assert [event.type for event in ran] == ["container.lazy_started", "container.lazy_stopped"] * (len(ran) // 2)
        assert len(ran) >= 2 * runs
        assert [event.data["run"] for event in ran[::2]] == [event.data["run"] for event in ran[1::2]]
        begun = [event.data["run"] for event in told if event.type != "container.lazy_stopped"]
        assert begun == list(range(1, len(begun) + 1))
        answered = Counter(problem["error"] for problem in self.problems[name] if "instance" in problem)
        assert answered <= Counter(event.data["error"] for event in failed)

    def assert_the_engine_saw_the_same(self, name: str) -> None:
        """Assert that its container ran when its start was told, and none when its stop was told, or now."""
        told = [event for event in logged(name) if event.type != "container.lazy_start_failed"]
        assert [self._running(name, event.at.timestamp()) for event in told] == [1, 0] * (len(told) // 2)
        assert self._running(name, time.time()) == 0
        assert (self._services.replicas(name), self._services.running(name)) == (0, [])

    def _running(self, name: str, at: float) -> int:
        """Return how many containers of an agent ran then, as the engine of its node told."""
        told = [one for _, one in self._engines[self.nodes[name]].all() if one.data.get(OF_SERVICE) == name]
        return sum({"start": 1, "die": -1}[one.what] for one in told if one.at < at)

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()


def _ask_until_it_answers(server: Server, name: str) -> list[httpx.Response]:
    """Dispatch until the agent answers. Return all answers."""
    end = time.monotonic() + SETTLED_SECONDS
    answers = [dispatch(server, name, name)]
    while answers[-1].status_code != 200 and time.monotonic() < end:
        answers.append(dispatch(server, name, name))
    return answers
