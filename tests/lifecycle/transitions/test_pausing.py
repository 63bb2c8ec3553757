"""Instances with the label `sleep=pause`: they are paused when they have been idle, and resumed by a dispatch."""

import uuid

import pytest

from lifecycle.engines.base import Phase
from lifecycle.exceptions import EngineRefused, EngineUnreachable, StartFailed
from lifecycle.orders import Order, Trigger
from lifecycle.state_machine import Mode, State
from lifecycle.supervision.reconciler import Reconciler
from tests.lifecycle.conftest import NAME, idle, leased, make_row, recover, row, stop_idle, use
from tests.lifecycle.fake_engine import raising

DEAD = uuid.uuid4()


@pytest.fixture
def box(engine):
    return engine.add(NAME, idle_timeout="1m", port="8080", sleep="pause")


@pytest.fixture
def paused(lifecycle, clock, box, events):
    """An instance that was started once, and paused when it had been idle. Its events so far are forgotten."""
    idle(lifecycle, clock, 75)
    stop_idle(lifecycle)
    assert box.phase is Phase.PAUSED
    events.clear()
    return box


def test_an_idle_instance_is_paused_and_then_that_is_told(lifecycle, engine, clock, box, events):
    idle(lifecycle, clock, 75)
    events.clear()
    stop_idle(lifecycle)
    assert (box.phase, engine.count("stop")) == (Phase.PAUSED, 0)
    told = {"instance": NAME, "run": 1, "idle_seconds": 75, "mode": "pause", "trigger": "idle"}
    assert events.only("lazy_stopped") == told
    assert (row().state, row().is_paused) == (State.ASLEEP, True)


def test_one_with_work_is_not_paused(lifecycle, clock, box):
    with leased(lifecycle):
        clock.go(3600)
        stop_idle(lifecycle)
        assert box.phase is Phase.RUNNING


def test_one_whose_work_is_broken_off_is_stopped_because_a_frozen_one_lets_its_callers_wait(lifecycle, box, events):
    with leased(lifecycle):
        lifecycle.control.sleep(NAME, Order(Trigger.SLEEP), force=True)
        assert box.phase is Phase.EXITED
    assert events[-1][0] == "lazy_stopped"
    assert "mode" not in events[-1][1]


def test_a_dispatch_resumes_it_as_a_new_run_of_the_same_incarnation(lifecycle, engine, agent, paused, events):
    before, agent.asked = paused.incarnation, 0
    use(lifecycle)
    told = events.only("lazy_started")
    assert (told["run"], told["mode"], agent.asked) == (2, "pause", 1)
    assert (row().state, row().incarnation, engine.count("start")) == (State.READY, before, 1)
    assert not row().is_paused


def test_the_probe_comes_before_the_next_look_at_it(lifecycle, engine, agent, paused):
    """The probe shows that it runs, where it was reached before."""
    looks = []
    engine.before["resume"] = [lambda: looks.append(engine.count("inspect"))]
    lifecycle.waking.wake(NAME)
    assert (engine.count("inspect"), agent.latest.addresses) == (looks[0], (("127.0.0.1", 8080),))


def test_one_that_ended_as_it_was_resumed_is_told_as_ended(lifecycle, engine, agent, paused, events):
    agent.why_not = ["no answer"]
    engine.after["resume"] = [lambda: paused.end(1)]
    with pytest.raises(StartFailed, match="exited with code 1 before it was ready"):
        use(lifecycle)
    assert events.only("lazy_start_failed")["cause"] == "exited"


def test_one_that_is_ready_because_it_runs_is_ready_at_once(lifecycle, clock, paused, events):
    paused.labels["dormouse.ready"] = "running"
    began = clock.monotonic()
    use(lifecycle)
    assert (events.types, clock.monotonic()) == (["lazy_started"], began)


def test_one_that_does_not_answer_after_the_resume_is_stopped(lifecycle, agent, paused, events):
    agent.why_not = ["no answer"]
    with pytest.raises(StartFailed, match="was not ready within 30 s: no answer"):
        use(lifecycle)
    assert (events.only("lazy_start_failed")["mode"], paused.running) == ("pause", False)
    assert (row().state, row().is_paused) == (State.ASLEEP, False)


def test_one_that_has_ended_while_it_slept_is_started(lifecycle, paused, events):
    paused.end(137)
    use(lifecycle)
    told = events.only("lazy_started")
    assert (told["run"], "mode" in told, paused.run) == (2, False, 2)


def test_one_that_ends_between_the_claim_and_the_resume_is_started_in_the_same_run(lifecycle, engine, paused, events):
    engine.before["resume"] = [lambda: paused.end(137)]
    use(lifecycle)
    told = events.only("lazy_started")
    assert (told["run"], "mode" in told, paused.run) == (2, False, 2)


def test_one_that_a_person_resumes_meanwhile_is_probed(lifecycle, engine, paused, events):
    engine.before["resume"] = [lambda: setattr(paused, "between", None)]
    use(lifecycle)
    assert events.types == ["lazy_started"]
    assert paused.run == 1


def test_one_that_cannot_be_resumed_says_why(lifecycle, engine, paused, events):
    engine.before["resume"] = [raising(EngineRefused("the freezer is broken"))]
    with pytest.raises(StartFailed, match="the freezer is broken"):
        use(lifecycle)
    assert events.only("lazy_start_failed")["cause"] == "start_rejected"
    assert paused.phase is Phase.PAUSED


def test_a_resume_whose_answer_is_lost_is_settled_by_what_is_seen(lifecycle, engine, paused, events):
    engine.after["resume"] = [raising(EngineUnreachable("no answer"))]
    use(lifecycle)
    assert events.only("lazy_started")["mode"] == "pause"


def test_one_that_a_person_paused_is_resumed(lifecycle, box, events):
    use(lifecycle)
    box.between = Phase.PAUSED
    use(lifecycle)
    assert events.types == ["lazy_started", "lazy_started"]
    assert (row().run, box.run) == (2, 1)


def test_one_that_a_person_paused_and_that_sleeps_stopped_is_rejected(lifecycle, box, events):
    del box.labels["dormouse.sleep"]
    use(lifecycle)
    box.between = Phase.PAUSED
    with pytest.raises(StartFailed, match="it is paused"):
        use(lifecycle)
    assert box.phase is Phase.PAUSED


def test_a_pause_that_is_refused_leaves_it_ready(lifecycle, engine, clock, box, events):
    idle(lifecycle, clock, 75)
    events.clear()
    engine.before["pause"] = [raising(EngineRefused("the freezer is broken"))]
    stop_idle(lifecycle)
    assert events.only("lazy_stop_failed")["mode"] == "pause"
    assert (row().state, box.phase) == (State.READY, Phase.RUNNING)


def test_one_that_ends_while_it_is_put_to_sleep_has_slept_in(lifecycle, engine, clock, box, events):
    idle(lifecycle, clock, 75)
    events.clear()
    engine.before["pause"] = [lambda: box.end(1)]
    stop_idle(lifecycle)
    assert events.types == ["lazy_stopped"]


def test_an_end_while_it_is_paused_is_not_told(lifecycle, paused, events):
    reconciler = Reconciler(lifecycle)
    paused.end(137)
    reconciler.reconcile()
    assert (events, row().state, row().is_paused) == ([], State.ASLEEP, False)


def test_the_end_of_a_resumed_run_is_told_with_the_time_since_the_resume(lifecycle, engine, clock, paused, events):
    reconciler = Reconciler(lifecycle)
    clock.go(3600)
    use(lifecycle)
    clock.go(5)
    paused.end(1)
    reconciler.reconcile()
    assert (events[-1][0], events[-1][1]["ran_seconds"]) == ("exited", 5)


def test_a_page_knows_whether_it_is_paused_by_what_the_engine_says(lifecycle, paused):
    reconciler = Reconciler(lifecycle)
    reconciler.reconcile()
    assert row().is_paused
    paused.between = None
    reconciler.reconcile()
    assert (row().state, row().is_paused) == (State.READY, False)


# A worker that died in the middle.


@pytest.fixture
def resuming(lifecycle, clock, box):
    """A claimed resume whose worker has died. What the box shows is up to the test."""
    box.begin()
    box.between = Phase.PAUSED
    return make_row(clock, State.STARTING, owner=DEAD, run=7, incarnation=box.incarnation, mode=Mode.PAUSE)


def test_a_resume_that_was_never_made_is_interrupted(lifecycle, box, resuming, events):
    recover(lifecycle)
    assert events.only("lazy_start_failed")["cause"] == "interrupted"
    assert (row().state, box.phase) == (State.ASLEEP, Phase.PAUSED)


def test_a_resume_that_was_made_is_told(lifecycle, box, resuming, events):
    box.between = None
    recover(lifecycle)
    told = events.only("lazy_started")
    assert (told["run"], told["mode"], told["recovered"]) == (7, "pause", True)
    assert row().state == State.READY


def test_a_resume_of_one_that_has_ended_is_interrupted(lifecycle, box, resuming, events):
    box.end(137)
    recover(lifecycle)
    told = events.only("lazy_start_failed")
    assert (told["cause"], told["exit_code"]) == ("interrupted", 137)


@pytest.mark.parametrize("was_paused", [False, True])
def test_a_pause_is_made_again(lifecycle, clock, box, events, was_paused):
    box.begin()
    box.between = Phase.PAUSED if was_paused else None
    make_row(clock, State.STOPPING, owner=DEAD, run=7, incarnation=box.incarnation, idle_seconds=900)
    recover(lifecycle)
    told = {"instance": NAME, "run": 7, "idle_seconds": 900, "mode": "pause", "recovered": True}
    assert events.only("lazy_stopped") == told
    assert box.phase is Phase.PAUSED
