"""Starts that fail, and starts whose outcome is not known yet."""

import pytest

from lifecycle.exceptions import Cause, EngineUnreachable, StartFailed, StartRejected
from lifecycle.state_machine import State
from tests.lifecycle.conftest import NAME, idle, make_row, recover, row, stop_idle, use
from tests.lifecycle.fake_engine import Program, raising


def test_a_rejected_start_is_told_with_its_reason(lifecycle, engine, box, events):
    engine.before["start"] = [raising(StartRejected("port 80 is taken", Cause.PORT_CONFLICT, 128))]
    with pytest.raises(StartFailed, match="reviewer-default failed to start: port 80 is taken"):
        use(lifecycle)
    assert events.only("lazy_start_failed") == {
        "instance": NAME,
        "run": 1,
        "error": "port 80 is taken",
        "cause": "port_conflict",
        "exit_code": 128,
        "trigger": "dispatch",
    }


def test_the_dispatch_after_a_rejected_start_tries_again(lifecycle, engine, box, events):
    engine.before["start"] = [raising(StartRejected("port 80 is taken", Cause.PORT_CONFLICT))]
    with pytest.raises(StartFailed):
        use(lifecycle)
    use(lifecycle)
    assert events.types == ["lazy_start_failed", "lazy_started"]
    assert [data["run"] for _, data in events] == [1, 2]


def test_a_failure_is_kept_with_the_row(lifecycle, engine, box, clock):
    engine.before["start"] = [raising(StartRejected("port 80 is taken", Cause.PORT_CONFLICT))]
    with pytest.raises(StartFailed):
        use(lifecycle)
    assert row().state == State.ASLEEP
    assert row().failure == {
        "run": 1,
        "at": "2026-11-23T18:55:30.000Z",
        "error": "port 80 is taken",
        "cause": "port_conflict",
    }


def test_a_rejected_start_stops_nothing(lifecycle, engine, box):
    engine.before["start"] = [raising(StartRejected("port 80 is taken", Cause.PORT_CONFLICT))]
    with pytest.raises(StartFailed):
        use(lifecycle)
    assert engine.count("stop") == 0


def test_one_that_exits_before_it_is_ready_is_told_with_code_and_output(lifecycle, engine, events):
    engine.add(NAME, Program.FAILS, port="8080")
    with pytest.raises(StartFailed):
        use(lifecycle)
    assert events.only("lazy_start_failed") == {
        "instance": NAME,
        "run": 1,
        "trigger": "dispatch",
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
    agent.why_not = ["no answer"]
    told = []
    engine.after["stop"] = [lambda: told.extend(events.types)]
    with pytest.raises(StartFailed):
        use(lifecycle)
    assert (box.running, told) == (False, [])
    failed = events.only("lazy_start_failed")
    assert failed["error"] == "was not ready within 5 s: no answer"
    assert failed["cause"] == "not_ready"


def test_a_known_one_that_is_gone_is_missing(lifecycle, engine, box, clock, events):
    idle(lifecycle, clock)
    stop_idle(lifecycle)
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
    engine.before["inspect"] = [raising(EngineUnreachable("no engine answers", was_asked=False))]
    with pytest.raises(StartFailed):
        use(lifecycle)
    failed = events.only("lazy_start_failed")
    assert (failed["cause"], failed["error"]) == ("engine_unreachable", "no engine answers")


def test_of_one_that_may_run_without_its_engine_nothing_is_told(lifecycle, engine, box, events):
    use(lifecycle)
    events.clear()
    engine.before["inspect"] = [raising(EngineUnreachable("no engine answers"))] * 2
    with pytest.raises(EngineUnreachable):
        use(lifecycle)
    assert events == []
    assert row().state == State.READY


def test_a_start_that_reached_no_engine_has_failed(lifecycle, engine, box, events):
    engine.before["start"] = [raising(EngineUnreachable("no engine answers", was_asked=False))]
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


def test_a_lost_start_stays_a_claim_until_the_engine_answers_and_is_then_reported(lifecycle, engine, box, events):
    gone = raising(EngineUnreachable("connection refused", was_asked=False))
    engine.after["start"] = [raising(EngineUnreachable("timed out"))]
    engine.before["start"] = [lambda: engine.before["inspect"].extend([gone] * 1000)]
    with pytest.raises(EngineUnreachable):
        use(lifecycle)
    assert events == []
    engine.before["inspect"].clear()
    recover(lifecycle)
    assert events.types == ["lazy_started"]
