"""The loop: recovers, observes, stops the idle; and survives what goes wrong."""

import threading

import pytest
from django.db import DatabaseError

from lifecycle.clock import Clock
from lifecycle.exceptions import EngineUnreachable
from lifecycle.models import Instance, State
from lifecycle.supervision.supervisor import Supervisor
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.workers.heartbeats import ThisWorker
from tests.lifecycle.conftest import NAME, make_row
from tests.lifecycle.fake_engine import raising
from tests.servers import wait_for


@pytest.fixture
def supervisor(transactional_db, engine, events, box):
    worker = ThisWorker("test")
    worker.send_heartbeat()
    supervisor = Supervisor(Lifecycle(engine, worker, sink=events, probe=lambda seen, labels: None))
    yield supervisor
    wait_for(lambda: not any(thread.name == "transition" for thread in threading.enumerate()))


def test_a_sweep_settles_observes_and_stops(supervisor, engine, events, box):
    box.labels["dormouse.idle-timeout"] = "1ms"
    box.begin()
    supervisor.sweep()

    def swept():
        supervisor.sweep()
        return events.types == ["lazy_stopped"]

    wait_for(swept)
    assert not box.running


def test_a_sweep_without_an_engine_stops_nothing_and_goes_on(supervisor, engine, box, caplog):
    engine.before["instances"] = [raising(EngineUnreachable("no engine answers"))] * 2
    supervisor.sweep()
    supervisor.sweep()
    supervisor.sweep()
    assert [record.message for record in caplog.records] == ["no engine answers", "Resolved: no engine answers"]


def test_claims_of_the_dead_are_settled_though_the_engine_gives_no_list(supervisor, engine, events):
    make_row(Clock(), State.STOPPING, idle_seconds=5)
    engine.before["instances"] = [raising(EngineUnreachable("no engine answers"))]
    supervisor.sweep()
    wait_for(lambda: events.types == ["lazy_stopped"])


def test_one_slow_stop_holds_no_other_up(supervisor, engine, events):
    gate = threading.Event()
    engine.before["stop"] = [lambda: gate.wait(60)]
    for name in ("slow", "quick"):
        box = engine.add(name, ready="running")
        box.begin()
        make_row(Clock(), State.STOPPING, name, idle_seconds=5)
    supervisor.sweep()
    wait_for(lambda: len(events) == 1)
    gate.set()
    wait_for(lambda: set(Instance.objects.values_list("state", flat=True)) == {"asleep"})  # the commit comes last
    assert len(events) == 2


@pytest.mark.slow
@pytest.mark.parametrize("error", [DatabaseError("locked"), ZeroDivisionError()])
def test_it_sweeps_on_whatever_went_wrong(supervisor, engine, error):
    ended = threading.Event()
    engine.before["instances"] = [raising(error), ended.set]
    supervisor.run(ended)
    assert engine.count("instances") == 2
    assert NAME in engine.boxes
