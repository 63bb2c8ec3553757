"""Everything that people do to containers, at random, with a note of each deed."""

import os
import random
import signal
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from docker.errors import APIError

from tests.docker.support.from_outside import WORK
from tests.docker.support.own_engine import OwnEngine
from tests.servers import Server

#: A deed has effects that are noted so long before it or after it.
AROUND_SECONDS = 1
#: What gets a signal ends soon, or when a dispatch resumes it if it was frozen just then.
ENDS_WITHIN_SECONDS = 20
#: So little memory is soon used up.
LIMITED = {"mem_limit": "24m", "memswap_limit": "24m"}
SLEEPS = [{"sleep": "stop"}, {"sleep": "pause"}, {"sleep": "stop", "start_timeout": "5s"}]


@dataclass(frozen=True)
class Deed:
    """What was done, when it began and ended (wall time), and to which names. No name: to all."""

    began: float
    ended: float
    what: str
    names: tuple[str, ...]

    def touches(self, name: str, began: float, ended: float) -> bool:
        """Return whether it may have had an effect on an instance within a time."""
        is_near = self.began - AROUND_SECONDS <= ended and began <= self.ended + AROUND_SECONDS
        return is_near and (not self.names or name in self.names)


@dataclass
class Deeds:
    """Does things to the containers of an engine of its own."""

    engine: OwnEngine
    server: Server
    names: list[str]
    done: list[Deed] = field(default_factory=list)

    def do_something(self) -> None:
        what = random.choices(list(WAYS), [weight for _, weight in WAYS.values()])[0]
        names = tuple(random.sample(self.names, 2 if what == "swap" else 1))
        began = time.time()
        with suppress(APIError, ProcessLookupError):  # it was not in the state for that
            WAYS[what][0](self, *names)
        self.done.append(Deed(began, time.time(), what, () if what in FOR_ALL else names))

    def touching(self, name: str, began: float, ended: float) -> list[Deed]:
        return [deed for deed in self.done if deed.touches(name, began, ended)]

    def create(self, name: str) -> None:
        keys = random.choice(SLEEPS) | {"idle_timeout": random.choice(["300ms", "1s", "3s"])}
        environment = {"TAKES": random.choice(["0", "0.3", "2"])}
        self.engine.containers.create(name=name, environment=environment, host_config=LIMITED, **cast(Any, WORK | keys))

    def make_whole(self) -> None:
        """Undo what a deed has left half done."""
        api = self.engine.api
        listed = {one["Names"][0].removeprefix("/") for one in api.containers(all=True)}
        for name in listed - set(self.names):
            with suppress(APIError):
                api.remove_container(name, force=True)
        for name in self.names:
            if name not in listed or self._is_stuck(name):
                with suppress(APIError):
                    api.remove_container(name, force=True)
                self.create(name)
            with suppress(APIError):
                api.connect_container_to_network(name, "bridge")

    def _is_stuck(self, name: str) -> bool:
        """Start a container. Return whether the engine cannot, because it lost its task at a restart of the engine.

        Docker Engine 20.10 does that to paused containers: "task ... already exists", at each start.
        """
        began = time.time()
        try:
            self.engine.api.start(name)
        except APIError as error:
            return "already exists" in str(error)
        finally:
            self.done.append(Deed(began, time.time(), "start", (name,)))
        return False

    def remove_all(self) -> None:
        for one in self.engine.api.containers(all=True):
            self.engine.api.remove_container(one["Id"], force=True)

    def start(self, name: str) -> None:
        self.engine.api.start(name)

    def stop(self, name: str) -> None:
        self.engine.api.stop(name, timeout=1)

    def kill(self, name: str) -> None:
        self.engine.api.kill(name)

    def restart(self, name: str) -> None:
        self.engine.api.restart(name, timeout=0)

    def crash(self, name: str) -> None:
        self._signal(name, signal.SIGKILL)

    def use_up_memory(self, name: str) -> None:
        self._signal(name, signal.SIGUSR2)

    def pause(self, name: str) -> None:
        self.engine.api.pause(name)
        time.sleep(random.uniform(0, 2))
        self.engine.api.unpause(name)

    def rename(self, name: str) -> None:
        self.engine.api.rename(name, f"{name}-away")
        time.sleep(random.uniform(0, 2))
        self.engine.api.rename(f"{name}-away", name)

    def swap(self, one: str, other: str) -> None:
        for old, new in [(one, f"{one}-away"), (other, one), (f"{one}-away", other)]:
            self.engine.api.rename(old, new)

    def recreate(self, name: str) -> None:
        self.engine.api.remove_container(name, force=True)
        time.sleep(random.uniform(0, 1))
        self.create(name)

    def compose_up(self, name: str) -> None:
        """Do what `docker compose up` does if the service has changed: the new one is made beside the old one."""
        api, temporary = self.engine.api, f"{uuid.uuid4().hex[:12]}_{name}"
        self.create(temporary)
        api.stop(name, timeout=1)
        api.remove_container(name)
        api.rename(temporary, name)
        api.start(name)

    def disconnect(self, name: str) -> None:
        self.engine.api.disconnect_container_from_network(name, "bridge")
        time.sleep(random.uniform(0, 2))
        self.engine.api.connect_container_to_network(name, "bridge")

    def kill_dormouse(self, _: str) -> None:
        self.server.kill()
        self.server.restart()

    def restart_engine(self, _: str) -> None:
        self.engine.stop()
        self.engine.start()

    def _signal(self, name: str, number: int) -> None:
        """Send a signal to the container's main process past the engine, as the kernel would, until it has ended.

        A frozen process would end at its next resume, long after this deed.
        """
        state = self.engine.containers.state(name)
        if not state["Pid"] or state["Paused"]:
            return
        os.kill(state["Pid"], number)
        end = time.monotonic() + ENDS_WITHIN_SECONDS
        while self.engine.containers.state(name)["Pid"] == state["Pid"] and time.monotonic() < end:
            time.sleep(0.05)


#: By name: what it does, and how often.
WAYS = {
    "start": (Deeds.start, 4),
    "stop": (Deeds.stop, 4),
    "kill": (Deeds.kill, 4),
    "restart": (Deeds.restart, 2),
    "crash": (Deeds.crash, 3),
    "use up memory": (Deeds.use_up_memory, 3),
    "pause": (Deeds.pause, 3),
    "rename": (Deeds.rename, 3),
    "swap": (Deeds.swap, 3),
    "recreate": (Deeds.recreate, 3),
    "compose up": (Deeds.compose_up, 3),
    "disconnect": (Deeds.disconnect, 2),
    "kill Dormouse": (Deeds.kill_dormouse, 0.5),
    "restart the engine": (Deeds.restart_engine, 0.3),
}
FOR_ALL = {"kill Dormouse", "restart the engine"}
#: By these a person starts a container, by those one ends it, and by these the names are not certain.
STARTS = {"start", "restart", "compose up", "pause"}
ENDS = {"stop", "kill", "restart", "pause", "recreate", "compose up", "restart the engine"}
RENAMES = {"rename", "swap", "recreate", "compose up"}
