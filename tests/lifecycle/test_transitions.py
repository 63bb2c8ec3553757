"""use(), stop_idle() and recover(): every event at its transition."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import DatabaseError, connections

from lifecycle import signals
from lifecycle.clock import Clock
from lifecycle.exceptions import (
    Cause,
    ClaimLost,
    EngineUnreachable,
    LabelError,
    StartFailed,
    StartRejected,
    UnknownInstance,
)
from lifecycle.models import Instance, Lease, State
from lifecycle.transitions import Lifecycle
from lifecycle.workers import ThisWorker
from tests.lifecycle.conftest import NAME, Events, make_row, row
from tests.lifecycle.fake_engine import Program, raising
from tests.servers import wait_for


def use(lifecycle, name=NAME):
    with lifecycle.use(name) as grant:
        return grant.seen


def idle(lifecycle, clock, seconds=60):
    """Wakes the instance and lets it be idle for so long."""
    use(lifecycle)
    clock.go(seconds)


# Waking


def test_use_starts_what_sleeps(lifecycle, engine, box):
    with lifecycle.use(NAME) as grant:
        assert box.running
        assert grant.seen.incarnation == box.incarnation
    assert engine.count("start") == 1


def test_a_use_is_a_lease_as_long_as_it_lasts(lifecycle, box):
    with lifecycle.use(NAME):
        assert Lease.objects.get().instance_id == NAME
    assert not Lease.objects.exists()


def test_a_lease_is_given_back_after_an_error(lifecycle, box):
    with pytest.raises(ZeroDivisionError), lifecycle.use(NAME):
        raise ZeroDivisionError
    assert not Lease.objects.exists()


def test_what_is_ready_is_not_started_again(lifecycle, engine, box, events):
    use(lifecycle)
    use(lifecycle)
    assert engine.count("start") == 1
    assert events.types == ["lazy_started"]


def test_started_tells_how_long_it_took_and_of_what_that_is_made(lifecycle, engine, agent, clock, box, events):
    engine.after["start"] = [lambda: clock.go(0.25)]
    agent.why_not = [*["not yet"] * 25, None]
    began = clock.monotonic()
    use(lifecycle)
    taken_ms = (clock.monotonic() - began) * 1000
    assert taken_ms > 700
    started = events.only("lazy_started")
    ready_ms, latency_ms = started.pop("ready_ms"), started.pop("latency_ms")
    assert started == {"instance": NAME, "run": 1, "start_ms": 250}
    assert (ready_ms, latency_ms) == (pytest.approx(taken_ms - 250, abs=1), pytest.approx(taken_ms, abs=1))


def test_latency_is_right_when_the_wall_clock_is_set_back(lifecycle, engine, clock, box, events):
    engine.after["start"] = [lambda: clock.go(0.25), lambda: clock.set_back(3600)]
    engine.before["start"] = [lambda: clock.set_back(3600)]
    use(lifecycle)
    assert events.only("lazy_started")["latency_ms"] == 250


def test_started_is_told_after_the_probe_and_not_before(lifecycle, agent, box, events):
    seen = []

    def ask(sighting, labels):
        seen.append(list(events.types))
        return None if len(seen) == 3 else "not yet"

    lifecycle.probe = lifecycle.recovery._probe = ask
    use(lifecycle)
    assert seen == [[], [], []]
    assert events.types == ["lazy_started"]


def test_started_is_told_inside_the_transaction_that_says_ready(lifecycle, box, events):
    states = []

    def sink(signal, **data):
        states.append(row().state)
        events(signal, **data)

    lifecycle.claims._sink = sink
    use(lifecycle)
    assert states == [State.READY]


def test_runs_are_counted(lifecycle, clock, box, events):
    for _ in range(2):
        idle(lifecycle, clock)
        lifecycle.stop_idle()
    assert [data["run"] for _, data in events] == [1, 1, 2, 2]


def test_the_claim_is_committed_before_the_engine_is_asked(lifecycle, engine, box):
    seen = []
    engine.before["start"] = [lambda: seen.append((row().state, row().owner, row().run))]
    use(lifecycle)
    assert seen == [(State.STARTING, lifecycle.worker.id, 1)]


def test_a_woken_row_is_ready_and_probed(lifecycle, clock, box):
    use(lifecycle)
    found = row()
    assert (found.state, found.probed, found.owner) == (State.READY, True, None)
    assert found.incarnation == box.incarnation
    assert found.last_used == clock.now()


def test_an_unknown_instance_leaves_no_row(lifecycle):
    with pytest.raises(UnknownInstance):
        use(lifecycle, "nobody")
    assert not Instance.objects.exists()


def test_labels_in_error_are_raised_and_nothing_is_started(lifecycle, engine, events):
    engine.add(NAME, idle_timeout="soon")
    with pytest.raises(LabelError):
        use(lifecycle)
    assert engine.count("start") == 0
    assert events == []


# Starts that fail


def test_a_rejected_start_is_told_with_its_reason(lifecycle, engine, box, events):
    engine.before["start"] = [raising(StartRejected(Cause.PORT_CONFLICT, "port 80 is taken", 128))]
    with pytest.raises(StartFailed, match="reviewer-default failed to start: port 80 is taken"):
        use(lifecycle)
    assert events.only("lazy_start_failed") == {
        "instance": NAME,
        "run": 1,
        "error": "port 80 is taken",
        "cause": "port_conflict",
        "exit_code": 128,
    }


def test_the_dispatch_after_a_rejected_start_tries_again(lifecycle, engine, box, events):
    engine.before["start"] = [raising(StartRejected(Cause.PORT_CONFLICT, "port 80 is taken"))]
    with pytest.raises(StartFailed):
        use(lifecycle)
    use(lifecycle)
    assert events.types == ["lazy_start_failed", "lazy_started"]
    assert [data["run"] for _, data in events] == [1, 2]


def test_a_failure_is_kept_with_the_row(lifecycle, engine, box, clock):
    engine.before["start"] = [raising(StartRejected(Cause.PORT_CONFLICT, "port 80 is taken"))]
    with pytest.raises(StartFailed):
        use(lifecycle)
    assert row().state == State.ASLEEP
    assert row().failure == {
        "run": 1,
        "at": clock.now().isoformat(),
        "error": "port 80 is taken",
        "cause": "port_conflict",
    }


def test_a_rejected_start_stops_nothing(lifecycle, engine, box):
    engine.before["start"] = [raising(StartRejected(Cause.PORT_CONFLICT, "port 80 is taken"))]
    with pytest.raises(StartFailed):
        use(lifecycle)
    assert engine.count("stop") == 0


def test_one_that_exits_before_it_is_ready_is_told_with_code_and_output(lifecycle, engine, events):
    engine.add(NAME, Program.FAILS)
    with pytest.raises(StartFailed):
        use(lifecycle)
    assert events.only("lazy_start_failed") == {
        "instance": NAME,
        "run": 1,
        "error": "exited with code 3 before it was ready",
        "cause": "exited",
        "exit_code": 3,
        "log_tail": "this is run 1\n",
    }


def test_an_exit_is_seen_at_once_between_two_probes(lifecycle, engine, agent, box, events, clock):
    agent.why_not = ["not yet"]
    clock.listeners.append(lambda: box.end(1))
    with pytest.raises(StartFailed):
        use(lifecycle)
    assert agent.asked == 1
    assert events.only("lazy_start_failed")["cause"] == "exited"


def test_one_out_of_memory_is_told_as_such(lifecycle, engine, box, events):
    def starve():
        box.end(137)
        box.oom = True

    engine.after["start"] = [starve]
    with pytest.raises(StartFailed):
        use(lifecycle)
    assert events.only("lazy_start_failed")["cause"] == "oom"


def test_one_that_is_not_ready_in_time_is_stopped_before_that_is_told(lifecycle, engine, agent, box, events):
    box.labels["dormouse.start-timeout"] = "5s"
    agent.why_not = ["nobody answers"]
    told = []
    engine.after["stop"] = [lambda: told.extend(events.types)]
    with pytest.raises(StartFailed):
        use(lifecycle)
    assert (box.running, told) == (False, [])
    failed = events.only("lazy_start_failed")
    assert failed["error"] == "was not ready within 5 s: nobody answers"
    assert failed["cause"] == "not_ready"


def test_a_known_one_that_is_gone_is_missing(lifecycle, engine, box, clock, events):
    idle(lifecycle, clock)
    lifecycle.stop_idle()
    events.clear()
    del engine.boxes[NAME]
    with pytest.raises(StartFailed) as raised:
        use(lifecycle)
    assert raised.value.cause == Cause.MISSING
    assert events.only("lazy_start_failed")["cause"] == "missing"
    assert row().state == State.ASLEEP


def test_one_that_vanishes_at_its_start_is_missing(lifecycle, engine, box, events):
    engine.before["start"] = [engine.boxes.clear]
    with pytest.raises(StartFailed):
        use(lifecycle)
    assert events.only("lazy_start_failed")["cause"] == "missing"


def test_a_sleeper_cannot_start_without_its_engine(lifecycle, engine, box, clock, events):
    make_row(clock)
    engine.before["inspect"] = [raising(EngineUnreachable("nobody there", was_asked=False))]
    with pytest.raises(StartFailed):
        use(lifecycle)
    failed = events.only("lazy_start_failed")
    assert (failed["cause"], failed["error"]) == ("engine_unreachable", "nobody there")


def test_of_one_that_may_run_without_its_engine_nothing_is_told(lifecycle, engine, box, events):
    use(lifecycle)
    events.clear()
    engine.before["inspect"] = [raising(EngineUnreachable("nobody there"))] * 2
    with pytest.raises(EngineUnreachable):
        use(lifecycle)
    assert events == []
    assert row().state == State.READY


def test_a_start_that_reached_no_engine_has_failed(lifecycle, engine, box, events):
    engine.before["start"] = [raising(EngineUnreachable("nobody there", was_asked=False))]
    with pytest.raises(StartFailed):
        use(lifecycle)
    assert events.only("lazy_start_failed")["cause"] == "engine_unreachable"


def test_a_start_whose_answer_was_lost_is_looked_up(lifecycle, engine, box, events):
    engine.after["start"] = [raising(EngineUnreachable("timed out"))]
    use(lifecycle)
    assert events.types == ["lazy_started"]


def test_a_lost_start_is_looked_up_until_the_engine_answers(lifecycle, engine, box, events):
    gone = raising(EngineUnreachable("connection refused", was_asked=False))
    engine.after["start"] = [raising(EngineUnreachable("timed out"))]
    engine.before["inspect"] = [lambda: None, lambda: None, gone, gone, gone]
    use(lifecycle)
    assert events.types == ["lazy_started"]


def test_a_start_that_times_out_is_looked_up_however_long_that_took(lifecycle, engine, box, clock, events):
    engine.after["start"] = [lambda: (clock.go(60), raising(EngineUnreachable("timed out"))())]
    use(lifecycle)
    assert events.types == ["lazy_started"]


def test_an_engine_that_is_lost_while_probing_is_asked_until_it_answers(lifecycle, engine, agent, box, events):
    gone = raising(EngineUnreachable("connection refused", was_asked=False))
    engine.after["start"] = [lambda: engine.before["inspect"].extend([gone, gone])]
    use(lifecycle)
    assert events.types == ["lazy_started"]


def test_a_lost_start_stays_a_claim_while_nobody_can_tell_and_is_told_as_it_was(lifecycle, engine, box, events):
    gone = raising(EngineUnreachable("connection refused", was_asked=False))
    engine.after["start"] = [raising(EngineUnreachable("timed out"))]
    engine.before["start"] = [lambda: engine.before["inspect"].extend([gone] * 1000)]
    with pytest.raises(EngineUnreachable):
        use(lifecycle)
    assert events == []
    engine.before["inspect"].clear()
    lifecycle.recover()
    assert events.types == ["lazy_started"]


def test_one_that_cannot_beat_ends_nobodys_leases(lifecycle, engine, box, clock, events):
    with lifecycle.use(NAME):
        clock.listeners.clear()  # the database is locked: there is no beat
        for _ in range(60):
            clock.go(1)
            lifecycle.recover()
        lifecycle.worker.beat()
        lifecycle.recover()
        lifecycle.stop_idle()
    assert events.types == ["lazy_started"]


# Found running, found dead


def test_one_found_running_is_probed_and_no_event_is_invented(lifecycle, engine, agent, box, events):
    box.begin()
    use(lifecycle)
    assert agent.asked == 1
    assert (engine.count("start"), events) == (0, [])


def test_one_found_running_that_is_not_ready_is_left_running(lifecycle, engine, agent, box, events):
    box.begin()
    agent.why_not = ["nobody answers"]
    with pytest.raises(StartFailed, match="was not ready within 30 s: nobody answers"):
        use(lifecycle)
    assert box.running
    assert (engine.count("stop"), events) == (0, [])


def test_one_found_running_is_probed_once(lifecycle, agent, box):
    box.begin()
    use(lifecycle)
    use(lifecycle)
    assert agent.asked == 1


def test_one_that_others_restarted_is_probed_again(lifecycle, agent, box, events):
    use(lifecycle)
    box.end(0)
    box.begin()
    use(lifecycle)
    assert agent.asked == 2
    assert events.types == ["lazy_started"]


def test_one_found_running_that_vanishes_while_probed_is_missing(lifecycle, engine, agent, box, events):
    box.begin()
    agent.why_not = ["not yet"]
    engine.before["inspect"] = [lambda: None, lambda: None, lambda: None, engine.boxes.clear]
    with pytest.raises(StartFailed) as raised:
        use(lifecycle)
    assert raised.value.cause == Cause.MISSING


def test_one_found_dead_is_started(lifecycle, engine, box, events):
    use(lifecycle)
    box.end(1)
    use(lifecycle)
    assert box.running
    assert events.types == ["lazy_started", "lazy_started"]


# Joining


@pytest.fixture
def two(transactional_db, engine, box) -> tuple[Lifecycle, Lifecycle]:
    """Two processes' lifecycles on one database and one engine, with clocks that run."""
    found = []
    for _ in range(2):
        worker = ThisWorker("test")
        worker.beat()
        found.append(Lifecycle(engine, worker, sink=Events(), probe=lambda seen, labels: None))
    return found[0], found[1]


class InThread(threading.Thread):
    """A use in a thread of its own, which keeps what it raised."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        super().__init__(daemon=True)
        self.lifecycle, self.error = lifecycle, None
        self.start()

    def run(self) -> None:
        try:
            use(self.lifecycle)
        except Exception as error:
            self.error = error
        finally:
            connections.close_all()

    def result(self) -> Exception | None:
        self.join(60)
        assert not self.is_alive()
        return self.error


@pytest.fixture
def held(engine):
    """Holds the next start in the engine until it is set."""
    gate, begun = threading.Event(), threading.Event()
    engine.before["start"] = [lambda: (begun.set(), gate.wait(60))]
    gate.begun = begun
    yield gate
    gate.set()


def polled(engine, lifecycle, times=3):
    """Waits until another process has looked at the row a few times."""
    looked = threading.Semaphore(0)
    look = lifecycle.clock.sleep
    lifecycle.clock.sleep = lambda seconds: (look(seconds), looked.release())
    return all(looked.acquire(timeout=60) for _ in range(times))


def test_a_second_dispatch_waits_for_the_first_start(two, engine, held):
    first = InThread(two[0])
    assert held.begun.wait(60)
    second = InThread(two[1])
    assert polled(engine, two[1])
    assert second.is_alive()
    held.set()
    assert (first.result(), second.result()) == (None, None)
    assert engine.count("start") == 1


def test_who_joined_a_run_gets_its_failure(two, engine, held):
    engine.before["start"].append(lambda: None)
    engine.boxes[NAME].program = Program.MISSING
    first = InThread(two[0])
    assert held.begun.wait(60)
    second = InThread(two[1])
    assert polled(engine, two[1])
    held.set()
    assert str(first.result()) == str(second.result()) == f"{NAME} failed to start: its command does not exist"
    assert engine.count("start") == 1


def test_who_comes_after_a_failed_run_makes_a_new_one(two, engine):
    engine.boxes[NAME].program = Program.MISSING
    assert isinstance(InThread(two[0]).result(), StartFailed)
    assert isinstance(InThread(two[1]).result(), StartFailed)
    assert engine.count("start") == 2
    assert row().run == 2


def test_a_dispatch_that_meets_a_stop_waits_for_its_end_and_wakes_it(two, engine, box):
    gate, begun = threading.Event(), threading.Event()
    engine.before["stop"] = [lambda: (begun.set(), gate.wait(60))]
    box.begin()
    make_row(two[0].clock, State.READY, incarnation=box.incarnation, probed=True, idle_timeout=timedelta(0))
    Instance.objects.update(last_used=two[0].clock.now())

    def stop():
        two[0].stop_idle()
        connections.close_all()

    stopping = threading.Thread(target=stop, daemon=True)
    stopping.start()
    assert begun.wait(60)
    dispatch = InThread(two[1])
    assert polled(engine, two[1])
    assert engine.count("start") == 0
    gate.set()
    stopping.join(60)
    assert dispatch.result() is None
    assert [call for call, _ in engine.calls if call in ("start", "stop")] == ["stop", "start"]
    assert wait_for(lambda: box.running)


# Stopping


def test_the_idle_are_stopped_and_that_is_told_afterwards(lifecycle, engine, clock, box, events):
    idle(lifecycle, clock, 75)
    events.clear()
    told = []
    engine.after["stop"] = [lambda: told.extend(events.types)]
    lifecycle.stop_idle()
    assert (box.running, told) == (False, [])
    assert events.only("lazy_stopped") == {"instance": NAME, "run": 1, "idle_seconds": 75}
    assert row().state == State.ASLEEP


def test_who_worked_within_the_timeout_is_not_stopped(lifecycle, engine, clock, box):
    idle(lifecycle, clock, 59)
    lifecycle.stop_idle()
    assert box.running


def test_the_idle_time_begins_with_the_end_of_the_work(lifecycle, clock, box):
    with lifecycle.use(NAME):
        clock.go(3600)
    lifecycle.stop_idle()
    assert box.running


def test_a_timeout_of_zero_is_never(lifecycle, engine, clock, events):
    box = engine.add(NAME, idle_timeout="0")
    idle(lifecycle, clock, 10**6)
    lifecycle.stop_idle()
    assert box.running


def test_who_works_is_never_stopped(lifecycle, clock, box):
    with lifecycle.use(NAME):
        clock.go(10**6)
        lifecycle.stop_idle()
        assert box.running


def test_a_stop_that_meets_a_lease_claims_nothing(lifecycle, engine, clock, box, events):
    """The lease comes after the stop has read the leases."""
    idle(lifecycle, clock)
    events.clear()
    stop = lifecycle.claims.stop
    grants = []

    def lease_first(found, idle_seconds):
        grants.append(lifecycle.take(NAME))
        return stop(found, idle_seconds)

    lifecycle.claims.stop = lease_first
    lifecycle.stop_idle()
    assert grants != [None]
    assert (box.running, events) == (True, [])
    assert row().state == State.READY


def test_no_lease_is_taken_of_one_that_is_being_stopped(lifecycle, engine, clock, box):
    idle(lifecycle, clock)
    grants = []
    engine.before["stop"] = [lambda: grants.append(lifecycle.take(NAME))]
    lifecycle.stop_idle()
    assert grants == [None]


def test_an_idle_clock_in_the_future_is_set_to_now(lifecycle, clock, box):
    use(lifecycle)
    clock.set_back(3600)
    lifecycle.stop_idle()
    assert row().last_used == clock.now()
    clock.go(60)
    lifecycle.stop_idle()
    assert not box.running


def test_a_stop_that_the_engine_did_not_answer_is_settled_later(lifecycle, engine, clock, box, events):
    idle(lifecycle, clock, 75)
    events.clear()
    engine.before["stop"] = [raising(EngineUnreachable("timed out"))]
    with pytest.raises(EngineUnreachable):
        lifecycle.stop_idle()
    assert (row().state, events) == (State.STOPPING, [])
    lifecycle.recover()
    assert events.only("lazy_stopped") == {"instance": NAME, "run": 1, "idle_seconds": 75}
    assert not box.running


def test_a_stop_keeps_to_the_grace_of_the_label(lifecycle, engine, clock, box):
    box.labels["dormouse.stop-timeout"] = "2m"
    graces = []
    stop = engine.stop
    engine.stop = lambda name, grace: (graces.append(grace), stop(name, grace))
    idle(lifecycle, clock)
    lifecycle.stop_idle()
    assert graces == [120]


# Late answers, lost claims, failing sinks


def take_over(**values):
    """What another worker does to a claim."""
    found = row()
    assert Instance.objects.change(found, owner=uuid.uuid4(), **values)


def test_a_late_answer_of_an_earlier_run_changes_nothing(lifecycle, engine, box, events):
    """Another worker held this one for dead, and settled its run; the start answers afterwards."""

    def settled_by_another():
        take_over(state=State.READY, incarnation=box.incarnation, probed=True, run=1)
        Instance.objects.update(owner=None)

    engine.after["start"] = [settled_by_another]
    use(lifecycle)
    assert events == []
    assert row().state == State.READY


def test_who_lost_its_claim_asks_the_engine_for_nothing(lifecycle, engine, clock, box, events):
    check = lifecycle.claims.check

    def lose_it(found):
        lifecycle.claims.check = check
        take_over(state=State.ASLEEP)
        check(found)

    lifecycle.claims.check = lose_it
    use(lifecycle)
    assert engine.count("start") == 1
    assert events.only("lazy_started")["run"] == 2


def test_who_lost_its_claim_while_it_looked_stops_nothing(lifecycle, engine, clock, box, events):
    """An inspection may wait for long; the run that another has begun meanwhile is not stopped."""
    use(lifecycle)
    clock.go(3600)
    engine.before["inspect"] = [lambda: take_over(state=State.ASLEEP)]
    with pytest.raises(ClaimLost):
        lifecycle.stop_idle()
    assert engine.count("stop") == 0
    assert box.running


def test_a_worker_in_doubt_starts_nothing(lifecycle, engine, clock, box, monkeypatch):
    """It waits until it has beaten again."""
    doubts = [True] * 3 + [False] * 9
    monkeypatch.setattr(lifecycle.worker, "is_in_doubt", lambda: doubts.pop(0))
    began = clock.monotonic()
    use(lifecycle)
    assert engine.count("start") == 1
    assert clock.monotonic() > began


def test_a_worker_that_comes_into_doubt_with_its_claim_starts_when_it_has_beaten(lifecycle, box, events, monkeypatch):
    """The database was locked for seconds: nobody else held it for dead, and it goes on."""
    doubts = [False, True, True]
    monkeypatch.setattr(lifecycle.worker, "is_in_doubt", lambda: bool(doubts) and doubts.pop(0))
    use(lifecycle)
    assert events.only("lazy_started")["run"] == 1


def test_what_cannot_be_committed_is_tried_until_it_lands_once(lifecycle, box, events):
    events.troubles = [DatabaseError("locked"), DatabaseError("locked")]
    use(lifecycle)
    assert events.types == ["lazy_started"]
    assert row().state == State.READY


def test_a_failing_sink_rolls_the_transition_back_and_it_is_settled_once(lifecycle, box, events):
    events.troubles = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        use(lifecycle)
    assert (row().state, events) == (State.STARTING, [])
    use(lifecycle)
    assert events.types == ["lazy_started"]


def test_an_error_of_the_logs_own_receiver_is_raised(lifecycle, box):
    def receiver(**data):
        raise ZeroDivisionError

    receiver.durable = True
    signals.lazy_started.connect(receiver)
    try:
        with pytest.raises(ZeroDivisionError):
            signals.send(signals.lazy_started, instance=NAME, at=Clock().now())
    finally:
        signals.lazy_started.disconnect(receiver)


# Looking


def test_a_waiting_fake_engine_is_never_asked_in_a_transaction(two, engine, box):
    """Of SQLite's one writer nobody could wait for another."""
    from django.db import connection

    inside = []
    for call in ("inspect", "start", "stop"):
        engine.before[call] = [lambda: inside.append(connection.in_atomic_block)] * 20
    use(two[0])
    Instance.objects.update(last_used=Clock().now() - timedelta(hours=1))
    two[0].stop_idle()
    assert len(inside) > 3
    assert not any(inside)
