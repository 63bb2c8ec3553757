"""What a worker that died left behind is settled with exactly one event (rule 6)."""

import uuid
from datetime import timedelta

import pytest

from lifecycle.exceptions import EngineUnreachable, StartFailed
from lifecycle.models import Lease
from lifecycle.state_machine import State
from lifecycle.transitions.recovering import SECOND_LOOK_SECONDS
from tests.lifecycle.conftest import NAME, leased, make_row, recover, row
from tests.lifecycle.fake_engine import Program, raising

DEAD = uuid.uuid4()


@pytest.fixture
def starting(lifecycle, clock, box):
    """A claim whose worker has died before it asked the engine; the box has run before."""
    box.begin()
    box.end(0)
    return make_row(clock, State.STARTING, owner=DEAD, run=7, incarnation=box.incarnation)


@pytest.fixture
def stopping(lifecycle, clock, box):
    box.begin()
    return make_row(clock, State.STOPPING, owner=DEAD, run=7, incarnation=box.incarnation, idle_seconds=900)


def test_a_start_that_was_never_asked_for_is_interrupted(lifecycle, engine, starting, events):
    recover(lifecycle)
    assert events.only("lazy_start_failed") == {
        "instance": NAME,
        "run": 7,
        "error": "Dormouse was interrupted before the start; the next dispatch tries again",
        "cause": "interrupted",
        "recovered": True,
    }
    assert row().state == State.ASLEEP
    assert (engine.count("start"), engine.count("stop")) == (0, 0)


def test_a_start_that_the_engine_may_yet_begin_is_called_back(lifecycle, engine, box, starting, events):
    """A manager of a swarm has died after it scaled the service up, and before there was a task."""
    box.may_begin = True
    recover(lifecycle)
    assert events.only("lazy_start_failed")["cause"] == "interrupted"
    assert engine.count("stop") == 1


def test_a_start_that_the_engine_is_about_to_begin_is_waited_for(lifecycle, engine, clock, box, starting, events):
    """Another manager of the swarm leads, and makes the task a few seconds later."""
    box.may_begin = True
    begin_at = clock.monotonic() + 7
    clock.listeners.append(lambda: box.begin() if clock.monotonic() >= begin_at and not box.running else None)
    recover(lifecycle)
    assert events.types == ["lazy_started"]
    assert engine.count("stop") == 0


def test_a_start_on_its_way_is_given_a_second_look(lifecycle, clock, box, starting, events):
    began = clock.monotonic()
    clock.listeners.append(lambda: None if box.running else box.begin())
    recover(lifecycle)
    assert events.types == ["lazy_started"]
    assert clock.monotonic() - began == SECOND_LOOK_SECONDS


def test_a_start_that_runs_is_probed_and_told(lifecycle, clock, agent, box, starting, events):
    box.begin()
    clock.go(3)
    recover(lifecycle)
    assert agent.asked == 1
    assert events.only("lazy_started") == {"instance": NAME, "run": 7, "latency_ms": 3000, "recovered": True}
    assert (row().state, row().incarnation, row().owner) == (State.READY, box.incarnation, None)


def test_a_recovered_latency_is_never_negative(lifecycle, clock, box, starting, events):
    box.begin()
    clock.set_back(3600)
    recover(lifecycle)
    assert events.only("lazy_started")["latency_ms"] == 0


def test_a_start_that_runs_has_a_fresh_start_timeout(lifecycle, clock, agent, box, starting, events):
    box.begin()
    clock.go(29)
    agent.why_not = [*["not yet"] * 100, None]
    recover(lifecycle)
    assert events.types == ["lazy_started"]


def test_a_start_that_never_gets_ready_is_stopped_and_told(lifecycle, agent, box, starting, events):
    box.begin()
    agent.why_not = ["no answer"]
    recover(lifecycle)
    assert not box.running
    failed = events.only("lazy_start_failed")
    assert (failed["cause"], failed["recovered"]) == ("not_ready", True)


def test_a_start_that_is_over_is_interrupted_with_its_exit_code(lifecycle, box, starting, events):
    box.program = Program.FAILS
    box.begin()
    recover(lifecycle)
    failed = events.only("lazy_start_failed")
    assert (failed["cause"], failed["exit_code"]) == ("interrupted", 3)
    assert failed["error"] == "Dormouse was interrupted, and it exited with code 3 before it was ready"
    assert failed["log_tail"] == "this is run 2\n"


def test_a_start_whose_engine_was_lost_says_that_the_engine_was_interrupted(lifecycle, engine, box, events):
    box.program = Program.FAILS
    engine.after["start"] = [raising(EngineUnreachable("the connection was lost"))]
    with pytest.raises(StartFailed, match="failed to start: the engine was interrupted, and it exited with code 3"):
        lifecycle.waking.wake(NAME)
    assert events.only("lazy_start_failed")["cause"] == "interrupted"


def test_a_start_of_what_is_gone_is_interrupted(lifecycle, engine, starting, events):
    engine.boxes.clear()
    recover(lifecycle)
    assert events.only("lazy_start_failed")["cause"] == "interrupted"


def test_a_stop_is_made_again_and_told_with_the_idle_time_of_its_claim(lifecycle, clock, box, stopping, events):
    clock.go(50)
    recover(lifecycle)
    assert not box.running
    assert events.only("lazy_stopped") == {"instance": NAME, "run": 7, "idle_seconds": 900, "recovered": True}
    assert row().state == State.ASLEEP


def test_a_stop_that_was_done_is_told(lifecycle, box, stopping, events):
    box.end(0)
    recover(lifecycle)
    assert events.types == ["lazy_stopped"]


def test_a_stop_of_what_is_gone_is_told(lifecycle, engine, stopping, events):
    engine.boxes.clear()
    recover(lifecycle)
    assert events.types == ["lazy_stopped"]


def test_it_never_asks_for_a_list(lifecycle, engine, starting):
    recover(lifecycle)
    assert engine.count("instances") == 0


def test_it_settles_once(lifecycle, starting, events):
    recover(lifecycle)
    recover(lifecycle)
    assert len(events) == 1


def test_the_claims_of_the_living_are_left_alone(lifecycle, engine, clock, box, events):
    make_row(clock, State.STARTING, owner=lifecycle.worker.id, run=1)
    with lifecycle.claims.working_on(NAME):
        recover(lifecycle)
    assert (events, engine.calls) == ([], [])


def test_a_claim_of_its_own_that_no_thread_works_on_is_settled_as_its_own(lifecycle, clock, box, events):
    make_row(clock, State.STARTING, owner=lifecycle.worker.id, run=1)
    box.begin()
    recover(lifecycle)
    assert "recovered" not in events.only("lazy_started")


def test_what_cannot_be_settled_for_want_of_an_engine_stays_a_claim(lifecycle, engine, starting, events):
    engine.before["inspect"] = [raising(EngineUnreachable("no engine answers"))]
    with pytest.raises(EngineUnreachable):
        recover(lifecycle)
    assert (events, row().state) == ([], State.STARTING)


@pytest.mark.parametrize(
    ("claim", "type"), [("starting", "lazy_start_failed"), ("stopping", "lazy_stopped")], ids=["start", "stop"]
)
def test_a_dead_workers_claim_is_told_as_recovered_at_a_later_try_too(lifecycle, engine, events, request, claim, type):
    request.getfixturevalue(claim)
    engine.before["inspect"] = [raising(EngineUnreachable("no engine answers"))]
    with pytest.raises(EngineUnreachable):
        recover(lifecycle)
    recover(lifecycle)
    assert events.only(type)["recovered"] is True


def test_a_worker_with_an_overdue_heartbeat_takes_nothing_over(lifecycle, engine, clock, starting, events):
    clock.listeners.clear()
    clock.go(11)
    recover(lifecycle)
    assert (events, engine.calls) == ([], [])


def test_a_dispatch_that_meets_a_dead_workers_start_recovers_it(lifecycle, engine, box, starting, events):
    box.begin()
    with leased(lifecycle):
        assert events.types == ["lazy_started"]
    assert engine.count("start") == 0


@pytest.mark.parametrize("claim", ["starting", "stopping"])
def test_a_dispatch_does_not_wait_for_an_engine_that_is_away(lifecycle, engine, events, request, claim):
    request.getfixturevalue(claim)
    engine.before["inspect"] = [raising(EngineUnreachable("no engine answers"))]
    with pytest.raises(EngineUnreachable), leased(lifecycle):
        pass
    assert (events, row().state) == ([], claim)


def test_the_leases_of_the_dead_end_and_the_idle_time_begins(lifecycle, clock, box):
    found = make_row(clock, State.READY, idle_timeout=timedelta(minutes=1), last_used=clock.now())
    Lease.objects.create(instance=found, worker=DEAD, since=clock.now())
    clock.go(3600)
    recover(lifecycle)
    assert not Lease.objects.exists()
    assert row().last_used == clock.now()


def test_the_leases_of_the_living_stay(lifecycle, box):
    with leased(lifecycle):
        recover(lifecycle)
        assert Lease.objects.exists()
