"""SIGTERM ends a web process in order in every combination of work, readers, a wake, a stop and a locked database."""

import contextlib
import itertools
import os
import signal
import sys
from pathlib import Path

import pytest

from events.models import EventLog
from lifecycle.engines.process.engine import ProcessEngine
from lifecycle.models import Instance, Lease, Worker
from tests.config.agents import AGENT, agents_file
from tests.config.serving.test_shutdown import InFlight, lock
from tests.servers import free_port, wait_for

pytestmark = pytest.mark.both_servers

#: What may be going on when the signal comes.
PARTS = ("work", "readers", "wake", "stop", "locked")
COMBINATIONS = [set(chosen) for count in range(len(PARTS) + 1) for chosen in itertools.combinations(PARTS, count)]
#: In the long form all 32, and the 18 fullest once more; else the fullest, with and without the lock.
CHOSEN = [*COMBINATIONS, *COMBINATIONS[-18:]] if os.environ.get("DORMOUSE_LONG") else [{*PARTS}, {*PARTS[:-1]}]
READERS, DISPATCHES = 8, 3
#: More than all parts of an orderly end may take together.
BOUND_SECONDS = 90
#: An agent whose stop takes until it is killed.
STUBBORN = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{AGENT}"
STUBBORN_TABLE = """
[stops]
command = "{python} stubborn.py {port}"
port = {port}
idle-timeout = "1s"
stop-timeout = "10m"
"""


@pytest.fixture
def environment(tmp_path):
    """Provide the settings of a web process with agents that work, start and stop for longer than a test waits."""
    with agents_file(tmp_path, starts="-c 'import time; time.sleep(600)'") as settings:
        (tmp_path / "stubborn.py").write_text(STUBBORN)
        with Path(settings["DORMOUSE_AGENTS_FILE"]).open("a") as file:
            file.write(STUBBORN_TABLE.format(python=sys.executable, port=free_port()))
        yield settings | {"DORMOUSE_SUPERVISOR": "embedded"}


@pytest.fixture
def engine(environment):
    return ProcessEngine(Path(environment["DORMOUSE_AGENTS_FILE"]), Path(environment["DORMOUSE_RUN_DIR"]))


def is_in(name, state):
    return lambda: Instance.objects.filter(name=name, state=state).exists()


def begin(flight, parts):
    """Begin what `parts` names, and wait until it is going on."""
    if "work" in parts:
        flight.begin(lambda: flight.dispatch("works"), DISPATCHES)
        wait_for(lambda: Lease.objects.count_works() == DISPATCHES, what="the work")
    if "readers" in parts:
        flight.begin(flight.read, READERS)
        wait_for(lambda: flight.streams.count("open") == READERS, what="the readers")
    if "stop" in parts:
        flight.begin(lambda: flight.dispatch("stops", b"0"))
        wait_for(is_in("stops", "stopping"), what="the stop")
    if "wake" in parts:
        flight.begin(lambda: flight.dispatch("starts"))
        wait_for(is_in("starts", "starting"), what="the wake")


def end_in_order(server, parts):
    """Send SIGTERM, and check how the process ends."""
    with lock() if "locked" in parts else contextlib.nullcontext():
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(BOUND_SECONDS) == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text(), server.log.read_text()
    if "locked" not in parts:
        assert (Lease.objects.count(), Worker.objects.count()) == (0, 0), server.log.read_text()


def check_streams(flight):
    for thread in flight.threads:
        thread.join(BOUND_SECONDS)
    bodies = [body for body in flight.streams if body != "open"]
    assert [body.count("event: stream-end") for body in bodies] == [1] * flight.streams.count("open")


def settle(server, engine):
    """Start the process again, and wait until it has settled what the one before left."""
    server.start().wait_until_up()
    wait_for(lambda: Lease.objects.count() == 0, what="the leases to end")
    for name in ("starts", "stops"):
        engine.stop(name, 0)
        wait_for(lambda name=name: not Instance.objects.filter(name=name).exclude(state="asleep"), what=name)


@pytest.mark.slow
def test_sigterm_ends_everything_in_order_in_every_combination(serve, environment, engine):
    server = serve(**environment)
    for parts in CHOSEN:
        flight = InFlight(server)
        begin(flight, parts)
        end_in_order(server, parts)
        check_streams(flight)
        settle(server, engine)
    stops = EventLog.objects.filter(type="container.lazy_stopped", instance="stops").count()
    assert stops == sum("stop" in parts for parts in CHOSEN)
