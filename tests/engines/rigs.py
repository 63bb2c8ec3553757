"""Rigs, one for each engine. Each rig makes instances of its engine, and all rigs can run the same programs."""

import os
import shlex
import signal
import sys
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, cast

from docker import APIClient

from lifecycle.engines.base import Engine
from lifecycle.engines.docker.engine import DockerEngine
from lifecycle.engines.process.engine import ProcessEngine
from lifecycle.engines.swarm.engine import SwarmEngine
from tests.docker.support.containers import Containers
from tests.lifecycle.fake_engine import FakeEngine, Program
from tests.servers import free_port, wait_for
from tests.swarm.support import Services

#: A script that fails. Each run writes a line of its own.
FAILS = "echo this is run $(cat /proc/sys/kernel/random/uuid); exit 3"
#: The programs as commands in the test image.
COMMANDS = {
    Program.SERVES: None,
    Program.FAILS: ["sh", "-c", FAILS],
    Program.MISSING: ["/no/such/program"],
    Program.NOT_EXECUTABLE: ["/www/index.html"],
}


class Rig(ABC):
    """Makes instances of one engine."""

    engine: Engine
    #: Whether the engine can freeze instances.
    can_pause = True
    #: Whether the engine tells who ended an instance.
    hears_ends = True
    #: Whether its engine says of an instance that never ran that there is nothing to stop.
    knows_what_never_ran = True

    @abstractmethod
    def add(self, program: Program = Program.SERVES, **keys: str) -> str:
        """Make an instance that is asleep, and return its name.

        `keys` are labels without their prefix. Program.SERVES listens on the instance's port.
        """

    @abstractmethod
    def add_stranger(self) -> str:
        """Make an instance that did not opt in, and return its name."""

    @abstractmethod
    def crash(self, name: str) -> None:
        """Kills what runs with SIGKILL, past the engine."""

    @abstractmethod
    def close(self) -> None:
        """End the instances that still run."""


def unique() -> str:
    return f"agent-{uuid.uuid4().hex[:8]}"


class FakeRig(Rig):
    def __init__(self) -> None:
        self.engine: FakeEngine = FakeEngine()

    def add(self, program: Program = Program.SERVES, **keys: str) -> str:
        box = self.engine.add(unique(), program, **cast(Any, {"port": str(free_port())} | keys))
        box.listens = True
        return box.name

    def add_stranger(self) -> str:
        return self.engine.add(unique(), enabled=False).name

    def crash(self, name: str) -> None:
        self.engine.boxes[name].end(137)

    def close(self) -> None:
        for box in self.engine.boxes.values():
            box.end(0)


class ProcessRig(Rig):
    def __init__(self, folder: Path) -> None:
        self.agents_file = folder / "agents.toml"
        self.agents_file.touch()
        self.run_dir = folder / "run"
        self.names: list[str] = []
        self.engine: ProcessEngine = ProcessEngine(self.agents_file, self.run_dir)
        self._not_executable = folder / "not-executable"
        self._not_executable.touch(0o644)

    def add(self, program: Program = Program.SERVES, **keys: str) -> str:
        keys = {"port": str(free_port())} | keys
        return self.add_command(self._command(program, keys["port"]), **keys)

    def add_command(self, command: str, **keys: str) -> str:
        """Add an instance to the agents file, and return its name. `command` is TOML, and is written unchanged."""
        name = unique()
        lines = [f"[{name}]", f"command = {command}", *(f'{key.replace("_", "-")} = "{keys[key]}"' for key in keys)]
        with self.agents_file.open("a") as file:
            file.write("\n".join(lines) + "\n")
        self.names.append(name)
        return name

    def add_stranger(self) -> str:
        return unique()

    def crash(self, name: str) -> None:
        wait_for(lambda: self.engine._run_file(name).signal(signal.SIGKILL), what="the process to write its pid")

    def close(self) -> None:
        for name in self.names:
            self.engine.stop(name, 0)

    def _command(self, program: Program, port: str) -> str:
        words = {
            Program.SERVES: [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", port],
            Program.FAILS: ["sh", "-c", FAILS],
            Program.MISSING: ["/no/such/program"],
            Program.NOT_EXECUTABLE: [str(self._not_executable)],
        }[program]
        return str(words)


class DockerRig(Rig):
    def __init__(self, api: APIClient, host: str) -> None:
        self.containers = Containers(api)
        self.engine: DockerEngine = DockerEngine(os.environ | {"DOCKER_HOST": host})

    def add(self, program: Program = Program.SERVES, **keys: str) -> str:
        return self.containers.create(command=COMMANDS[program], **cast(Any, keys))

    def add_stranger(self) -> str:
        return self.containers.create(labelled=False)

    def crash(self, name: str) -> None:
        os.kill(self.containers.state(name)["Pid"], signal.SIGKILL)

    def close(self) -> None:
        self.containers.remove_all()
        for client in self.engine._clients.values():
            client.close()


class PodmanRig(DockerRig):
    knows_what_never_ran = False


class SwarmRig(Rig):
    can_pause = False
    hears_ends = False

    def __init__(self, api: APIClient, host: str) -> None:
        self.services = Services(api)
        self.engine: SwarmEngine = SwarmEngine((host,))

    def add(self, program: Program = Program.SERVES, **keys: str) -> str:
        return self.services.create(command=COMMANDS[program], **cast(Any, keys))

    def add_stranger(self) -> str:
        return self.services.create(labelled=False)

    def crash(self, name: str) -> None:
        self.services.kill(name)

    def close(self) -> None:
        self.services.remove_all()
        self.engine.close()


def shell(script: str) -> str:
    """Return a shell script as a `command` of the agents file, in TOML."""
    return f"'''sh -c {shlex.quote(script)}'''"
