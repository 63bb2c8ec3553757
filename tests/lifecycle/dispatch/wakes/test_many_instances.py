"""Hundreds of dispatches to dozens of sleeping instances at once: each is answered, and each instance starts once."""

import collections
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from events.models import EventLog
from lifecycle.engines.process.engine import ProcessEngine
from lifecycle.models import Lease
from tests.config.agents import AGENT
from tests.servers import free_port, wait_for

INSTANCES, DISPATCHES = (50, 500) if os.environ.get("DORMOUSE_LONG") else (8, 80)
#: Fifty Python programs that start at once on two processors take their time.
SECONDS = 300
NAMES = [f"agent-{number}" for number in range(INSTANCES)]


@pytest.fixture
def server(serve, tmp_path):
    (tmp_path / "agent.py").write_text(AGENT)
    agents, tables = tmp_path / "agents.toml", []
    for name in NAMES:
        port = free_port()
        command = f"{sys.executable} agent.py {port}"
        tables.append(f'[{name}]\ncommand = "{command}"\nport = {port}\nstart-timeout = "{SECONDS}s"\n')
    agents.write_text("\n".join(tables))
    server = serve(DORMOUSE_AGENTS_FILE=str(agents), DORMOUSE_RUN_DIR=str(tmp_path / "run"))
    yield server
    engine = ProcessEngine(agents, tmp_path / "run")
    with ThreadPoolExecutor(8) as stopping:
        list(stopping.map(lambda name: engine.stop(name, 0), NAMES))


@pytest.mark.slow
def test_each_dispatch_is_answered_and_each_instance_starts_once(server):
    def dispatch(number):
        url = f"{server.url}/api/instances/{NAMES[number % INSTANCES]}/dispatch"
        return httpx.post(url, content=b"0.1", headers=server.bearer, timeout=SECONDS).status_code

    with ThreadPoolExecutor(DISPATCHES) as callers:
        assert collections.Counter(callers.map(dispatch, range(DISPATCHES))) == {200: DISPATCHES}
    told = EventLog.objects.values_list("type", "instance").order_by("instance")
    assert sorted(told) == [("container.lazy_started", name) for name in sorted(NAMES)]
    wait_for(lambda: not Lease.objects.exists(), what="the leases to end")
    assert "Traceback" not in server.log.read_text()
