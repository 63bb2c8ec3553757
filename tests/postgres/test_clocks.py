"""Machines whose clocks differ by half an hour, on one database: the idle time is right in each of them."""

import sys

import pytest

from tests.postgres.site import Command
from tests.servers import free_port, wait_for

AGENT = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

ThreadingHTTPServer.request_queue_size = 100  # of 20 connections at once, 5 would wait and the rest be tried 1 s later
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
"""
#: Sets the wall clock of this process alone, as another machine's.
SET_CLOCK = """
import time
from datetime import timedelta
from django.utils import timezone
seconds = {minutes} * 60
system_now, system_time = timezone.now, time.time
timezone.now = lambda: system_now() + timedelta(seconds=seconds)
time.time = lambda: system_time() + seconds
from lifecycle.assembly import lifecycle
here = lifecycle("test")
"""
USE = """
for name in ("long", "short"):
    here.waking.wake(name)
    here.leases.give_back(here.leases.take(name).lease)
"""
SWEEP = """
while not (idle := here.stopping.find_idle()):
    time.sleep(0.05)
for row in idle:
    here.stopping.stop_idle(row)
print(*(row.name for row in idle))
"""
STOP = """
from lifecycle.models import Instance
for name in ("long", "short"):
    here.engine.stop(name, 1)
"""


@pytest.fixture
def machine(site, tmp_path):
    """Return a function that runs code on a machine whose clock is wrong by so many minutes."""
    (tmp_path / "agent.py").write_text(AGENT)
    tables = []
    for name, timeout in (("long", "15m"), ("short", "1s")):
        port = free_port()
        command = f"{sys.executable} {tmp_path / 'agent.py'} {port}"
        tables.append(f'[{name}]\ncommand = """{command}"""\nport = {port}\nidle-timeout = "{timeout}"\n')
    (tmp_path / "agents.toml").write_text("\n".join(tables))
    agents = {"DORMOUSE_AGENTS_FILE": str(tmp_path / "agents.toml"), "DORMOUSE_RUN_DIR": str(tmp_path / "run")}

    def run(minutes, code):
        return Command(SET_CLOCK.format(minutes=minutes) + code, site.environment | agents).end()

    yield run
    run(0, STOP)


@pytest.mark.parametrize(("used_by", "swept_by"), [(-30, 0), (0, 30), (30, 0), (0, -30)])
def test_an_agent_that_was_just_used_is_not_stopped(site, machine, used_by, swept_by):
    machine(used_by, USE)
    wait_for(lambda: site.ask("SELECT name FROM lifecycle_instance WHERE last_used < now() - interval '1 second'"))
    assert machine(swept_by, SWEEP) == "short\n"
    (stopped,) = site.ask("SELECT data FROM event_log WHERE type = 'container.lazy_stopped'")
    assert 1 <= stopped["idle_seconds"] < 600
    (seconds,) = site.ask("SELECT abs(extract(epoch FROM now() - max(at))) FROM event_log")
    assert seconds < 600
