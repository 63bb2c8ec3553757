"""The loop: recovers, observes, stops the idle; and survives what goes wrong."""

import threading

import pytest
from django.db import DatabaseError

from lifecycle.clock import Clock
from lifecycle.exceptions import EngineUnreachable
from lifecycle.models import Instance
from lifecycle.state_machine import State
from lifecycle.supervision.supervisor import Supervisor, log_and_retry_later
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.workers.heartbeats import ThisWorker
from tests.lifecycle.conftest import NAME, make_row
from tests.lifecycle.fake_engine import raising
from tests.servers import wait_for

CUTS = 20


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


def test_a_database_that_cannot_be_written_stops_nothing_until_it_can(supervisor, engine, events, box):
    box.labels["dormouse.idle-timeout"] = "1ms"
    box.begin()
    supervisor._lifecycle.worker.trouble = "database or disk is full"
    for _ in range(3):
        supervisor.sweep()
    assert engine.count("stop") == 0
    supervisor._lifecycle.worker.send_heartbeat()
    wait_for(lambda: supervisor.sweep() or events.types == ["lazy_stopped"])


def test_a_transition_that_the_database_refuses_is_one_line_of_the_log(caplog):
    log_and_retry_later(raising(DatabaseError("database or disk is full")))
    assert "cannot be used: database or disk is full. A later sweep" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_stream_of_changes_that_is_cut_again_and_again_is_opened_again(supervisor, engine, monkeypatch):
    ended, cuts = threading.Event(), []

    def watch_changes():
        cuts.append(len(cuts))
        if len(cuts) > CUTS:
            ended.set()
        if len(cuts) % 3 == 0:
            raise EngineUnreachable("the connection to the engine failed")
        yield NAME
        if len(cuts) % 3 == 1:
            raise ZeroDivisionError

    monkeypatch.setattr("lifecycle.supervision.supervisor.SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(engine, "watch_changes", watch_changes)
    supervisor._watch_engine(ended)
    assert len(cuts) == CUTS + 1
    assert supervisor._engine_event.is_set()


@pytest.mark.slow
@pytest.mark.parametrize("error", [DatabaseError("locked"), ZeroDivisionError()])
def test_it_sweeps_on_whatever_went_wrong(supervisor, engine, error):
    ended = threading.Event()
    engine.before["instances"] = [raising(error), ended.set]
    supervisor.run(ended)
    assert engine.count("instances") == 2
    assert NAME in engine.boxes
