"""Waking an instance that sleeps, or is found running or dead; and the event of each transition."""

from datetime import timedelta

import pytest

from lifecycle.exceptions import Cause, LabelError, StartFailed, UnknownInstance
from lifecycle.models import Instance, Lease
from lifecycle.state_machine import State
from lifecycle.transitions.lifecycle import Lifecycle
from tests.lifecycle.conftest import NAME, idle, leased, make_row, row, stop_idle, use


def test_a_sleeping_instance_is_started(lifecycle, engine, box):
    with leased(lifecycle) as found:
        assert box.running
        assert found.seen.incarnation == box.incarnation
    assert engine.count("start") == 1


def test_work_holds_a_lease_until_it_ends(lifecycle, box):
    with leased(lifecycle):
        assert Lease.objects.get().instance_id == NAME
    assert not Lease.objects.exists()


def test_a_lease_is_given_back_after_an_error(lifecycle, box):
    with pytest.raises(ZeroDivisionError), leased(lifecycle):
        raise ZeroDivisionError
    assert not Lease.objects.exists()


def test_a_ready_instance_is_not_started_again(lifecycle, engine, box, events):
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
    assert started == {"instance": NAME, "run": 1, "start_ms": 250, "trigger": "dispatch"}
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

    use(Lifecycle(lifecycle.engine, lifecycle.worker, clock=lifecycle.clock, sink=events, probe=ask))
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
        stop_idle(lifecycle)
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


def test_one_found_running_is_probed_and_no_event_is_invented(lifecycle, engine, agent, box, events):
    box.begin()
    use(lifecycle)
    assert agent.asked == 1
    assert (engine.count("start"), events) == (0, [])


def test_one_found_running_that_is_not_ready_is_left_running(lifecycle, engine, agent, box, events):
    box.begin()
    agent.why_not = ["no answer"]
    with pytest.raises(StartFailed, match="was not ready within 30 s: no answer"):
        use(lifecycle)
    assert box.running
    assert (engine.count("stop"), events) == (0, [])


def test_one_that_is_stopped_while_it_is_probed_is_woken(lifecycle, engine, agent, box, clock, events):
    """Others started it, and it was idle for its timeout before a dispatch came, or was stopped by hand."""

    def stop():
        if engine.count("start") == 0:
            box.end(143)
            Instance.objects.update(state=State.ASLEEP, version=99)

    box.begin()
    agent.why_not = ["not yet", None]
    clock.listeners.append(stop)
    use(lifecycle)
    assert engine.count("start") == 1
    assert events.types == ["lazy_started"]


def test_the_idle_clock_of_one_found_running_begins_again_with_its_probe(lifecycle, agent, box, clock):
    box.begin()
    lifecycle.adopting.adopt(make_row(clock, idle_timeout=timedelta(minutes=1)), lifecycle.engine.inspect(NAME))
    clock.go(59)
    agent.why_not = [*["not yet"] * 100, None]
    clock.listeners.append(lambda: stop_idle(lifecycle))
    use(lifecycle)
    assert box.run == 1


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
