"""The swarm of the suite's own, and services in it that have an image on every node and need no registry."""

import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
from docker import APIClient
from docker.errors import NotFound

from lifecycle.engines.labels import ENABLE, PREFIX
from lifecycle.engines.swarm.managers import get, post
from tests.docker.support.containers import PORT, Containers, image
from tests.servers import wait_for

#: The socket of the manager. The one of the worker is beside it.
HOST = os.environ.get("DORMOUSE_TEST_SWARM_HOST", "")
HOW = ".ci/swarm start DIR (as root; needs docker.io), then export DORMOUSE_TEST_SWARM_HOST=what it printed"
#: Its registry refuses at once. A node asks it for the image at each start, and then takes its own.
IMAGE = "127.0.0.1:1/dormouse-test-agent:1"
#: What a manager says while more than half of them are gone.
NO_LEADER = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online."
    " Make sure more than half of the managers are online."
)
PLACE = Path(HOST.removeprefix("unix://")).parent.parent


def node_host(node: str) -> str:
    """The DOCKER_HOST of a node: "manager" or "worker"."""
    return f"unix://{PLACE / node / 'docker.sock'}"


def connect(host: str) -> APIClient:
    return APIClient(base_url=host, version="auto", timeout=120)


def load_image(api: APIClient) -> None:
    name, _, tag = IMAGE.rpartition(":")
    api.import_image_from_data(image(), repository=name, tag=tag, changes=["CMD /agent"])


class Services:
    """Makes services of the test image under unique names, and removes them all at the end."""

    def __init__(self, api: APIClient) -> None:
        self.api = api
        self._names: list[str] = []

    def create(
        self,
        *,
        command: list[str] | None = None,
        labelled: bool = True,
        environment: dict[str, str] | None = None,
        publish: str = "host",
        image: str = IMAGE,
        constraints: tuple[str, ...] = (),
        scaled_to: int = 0,
        changes: dict[str, Any] | None = None,
        **keys: str,
    ) -> str:
        """A service; `keys` are labels without their prefix. Returns its name.

        `publish` is the mode in which its port is published, or empty. `changes` replace parts of its specification.
        """
        name = f"agent-{uuid.uuid4().hex[:8]}"
        labels = {PREFIX + key.replace("_", "-"): value for key, value in keys.items()}
        container = {"Image": image, "Env": [f"{key}={value}" for key, value in (environment or {}).items()]}
        template = {
            "ContainerSpec": container | ({"Command": command} if command else {}),
            "RestartPolicy": {"Condition": "none"},
            "Placement": {"Constraints": list(constraints)},
        }
        spec = {
            "Name": name,
            "Labels": labels | ({ENABLE: "true"} if labelled else {}),
            "TaskTemplate": template,
            "Mode": {"Replicated": {"Replicas": scaled_to}},
            "EndpointSpec": {"Ports": [{"TargetPort": PORT, "PublishMode": publish}] if publish else []},
        }
        post(self.api, "services/create", spec | (changes or {}))
        self._names.append(name)
        return name

    def read(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.inspect_service(name)
        return found

    def replicas(self, name: str) -> int:
        return int(self.read(name)["Spec"]["Mode"]["Replicated"]["Replicas"])

    def scale(self, name: str, replicas: int) -> None:
        """Scale a service, as a person does with `docker service scale`."""
        self.update(name, lambda spec: spec["Mode"]["Replicated"].update(Replicas=replicas))

    def update(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the specification of a service. The swarm itself may change it meanwhile, so try until it succeeds."""

        def is_done() -> bool:
            found = self.read(name)
            change(found["Spec"])
            path, version = f"services/{found['ID']}/update", found["Version"]["Index"]
            with contextlib.suppress(requests.HTTPError):
                post(self.api, path, found["Spec"], version=version)
                return True
            return False

        wait_for(is_done, what=f"the change of {name}")

    def tasks(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.tasks(filters={"service": name})
        return found

    def running(self, name: str) -> list[dict[str, Any]]:
        return [
            one for one in self.tasks(name) if one["Status"]["State"] == "running" and one["DesiredState"] == "running"
        ]

    def node_of(self, name: str) -> str:
        """Return on which node the service's task runs: "manager" or "worker"."""
        node = get(self.api, f"nodes/{self.running(name)[0]['NodeID']}")
        return str(node["Spec"]["Role"])

    def kill(self, name: str) -> None:
        """Kill what the service's task runs with SIGKILL, past the engine."""
        os.kill(self.running(name)[0]["Status"]["ContainerStatus"]["PID"], signal.SIGKILL)

    def let_go(self, name: str) -> None:
        """Let the agent end its work, which it holds: see HOLD. It runs on the manager."""
        Containers(self.api).touch(self.running(name)[0]["Status"]["ContainerStatus"]["ContainerID"], "/go")

    def remove(self, name: str) -> None:
        with contextlib.suppress(NotFound):
            self.api.remove_service(name)

    def remove_all(self) -> None:
        for name in self._names:
            self.remove(name)


class Worker:
    """The node of the swarm that may be killed, and comes back."""

    def __init__(self, api: APIClient) -> None:
        self._api = api
        self.id = next(one["ID"] for one in api.nodes() if one["Spec"]["Role"] == "worker")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let no new task run on the manager inside the block."""
        manager = next(one["ID"] for one in self._api.nodes() if one["Spec"]["Role"] == "manager")
        self._change(manager, Availability="pause")
        try:
            yield
        finally:
            self._change(manager, Availability="active")

    def drain(self) -> None:
        """Let nothing run on it any more, as `docker node update --availability drain` does."""
        self._change(self.id, Availability="drain")

    def activate(self) -> None:
        self._change(self.id, Availability="active")

    def _change(self, id: str, **values: str) -> None:
        found = self._api.inspect_node(id)
        post(self._api, f"nodes/{id}/update", found["Spec"] | values, version=found["Version"]["Index"])

    def kill(self) -> None:
        """Kill its engine and everything in its network namespace, and cut it off: nobody answers there any more."""
        subprocess.run([".ci/swarm", "kill", PLACE, "worker"], check=True, timeout=60)

    def bring_back(self) -> None:
        if (PLACE / "worker" / "docker.pid").exists():
            return
        subprocess.run([".ci/swarm", "revive", PLACE, "worker"], check=True, timeout=120, stdout=subprocess.DEVNULL)
        wait_for(lambda: self._api.inspect_node(self.id)["Status"]["State"] == "ready", what="the worker to come back")
