"""A real agent behind the fake engine's instance, and the dispatcher of a web process."""

import json
import re
import sys
from typing import Any

import pytest

from lifecycle import assembly
from lifecycle.dispatch.dispatcher import Dispatcher
from lifecycle.dispatch.wakes import Wakes
from lifecycle.engines.process.engine import ProcessEngine
from tests.lifecycle.conftest import NAME, Events
from tests.lifecycle.dispatch.agent import Agent
from tests.servers import free_port, wait_for


class WorkerAgent(Agent):
    """The agent of the fake engine's instance, with what was told of its work."""

    def __init__(self, events: Events) -> None:
        super().__init__()
        self.events = events

    def failure(self) -> dict[str, Any]:
        """Return what was told of the one piece of work that failed, with `N s` for how long it took."""
        wait_for(lambda: "work_failed" in self.events.types)
        (data,) = [data for type, data in self.events if type == "work_failed"]
        assert data["instance"] == NAME
        return {"status": data["status"], "error": re.sub(r"after [\d.]+ s", "after N s", data["error"])}


@pytest.fixture
def worker_agent(transactional_db, lifecycle, engine, events, monkeypatch):
    """The agent of the fake engine's instance, and the web process's dispatcher to it."""
    wakes = Wakes(lifecycle)
    monkeypatch.setattr(assembly, "_dispatchers", [Dispatcher(wakes)])
    with WorkerAgent(events) as agent:
        engine.add(NAME, port=str(agent.port))
        yield agent
    wakes.shut_down()


@pytest.fixture
def sleeper(engine, worker_agent):
    return engine.boxes[NAME]


@pytest.fixture
def serve_agent(serve, tmp_path):
    """Start a web process with one process agent: `serve_agent(PROGRAM)`. The program gets its port as argument."""
    engines = []

    def start(program):
        (tmp_path / "agent.py").write_text(program)
        port, agents = free_port(), tmp_path / "agents.toml"
        command = json.dumps([sys.executable, "agent.py", str(port)])
        agents.write_text(f"[{NAME}]\ncommand = {command}\nport = {port}\n")
        settings = {"DORMOUSE_AGENTS_FILE": str(agents), "DORMOUSE_RUN_DIR": str(tmp_path / "run")}
        server = serve(DORMOUSE_ENGINE="process", DORMOUSE_LOG_FORMAT="json", **settings)
        engines.append((ProcessEngine(agents, tmp_path / "run"), server))
        return server

    yield start
    for engine, server in engines:
        print(server.log.read_text())  # pytest shows it with a failure
        engine.stop(NAME, 5)
