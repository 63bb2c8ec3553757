"""Waiting until an instance is ready, and what is kept of a failure."""

from itertools import pairwise
from typing import Any, cast

import pytest

from lifecycle.exceptions import Cause, LabelError, Missing, StartFailed
from lifecycle.transitions.starts.readiness import Readiness
from tests.lifecycle.conftest import NAME
from tests.lifecycle.fake_engine import Program


def test_an_unforeseen_error_in_the_probe_ends_the_run(engine, clock, box, caplog):
    def ask(seen, read):
        raise ZeroDivisionError("an unforeseen error")

    box.begin()
    with pytest.raises(StartFailed, match=r"the probe failed \(ZeroDivisionError: an unforeseen error\)"):
        wait(engine, clock, ask)
    assert "an unforeseen error" in caplog.text


def wait(engine, clock, agent):
    return Readiness(engine, clock, cast(Any, None), agent).wait_until_ready(NAME)


def test_the_wait_ends_with_the_first_success(engine, clock, agent, box):
    box.begin()
    agent.why_not = ["not yet", "not yet", None]
    assert wait(engine, clock, agent).incarnation == box.incarnation
    assert agent.asked == 3


def test_the_next_attempt_begins_soon_after_a_failed_one_and_never_more_than_50_ms_later(engine, clock, agent, box):
    box.begin()
    box.labels["dormouse.start-timeout"] = "60s"
    agent.why_not = ["no answer"]
    begun = []

    def ask(seen, read):
        begun.append(clock.monotonic())
        return agent(seen, read)

    with pytest.raises(StartFailed):
        wait(engine, clock, ask)
    gaps = [later - earlier for earlier, later in pairwise(begun)]
    assert gaps[0] == pytest.approx(0.02)
    assert 0.02 < gaps[-1] < 0.05
    assert max(gaps) == pytest.approx(gaps[-1])


def test_every_attempt_inspects(engine, clock, agent, box):
    box.begin()
    agent.why_not = ["not yet"] * 5 + [None]
    wait(engine, clock, agent)
    assert engine.count("inspect") == agent.asked == 6


def test_the_wait_ends_with_the_start_timeout(engine, clock, agent, box):
    box.begin()
    box.labels["dormouse.start-timeout"] = "1s"
    agent.why_not = ["no answer"]
    began = clock.monotonic()
    with pytest.raises(StartFailed) as raised:
        wait(engine, clock, agent)
    assert raised.value.cause == Cause.NOT_READY
    assert raised.value.error == "was not ready within 1 s: no answer"
    assert 1 <= clock.monotonic() - began < 1.1


def test_a_wall_clock_that_is_set_back_prolongs_nothing(engine, clock, agent, box):
    box.begin()
    agent.why_not = ["no answer"]
    clock.listeners.append(lambda: clock.set_back(10))
    with pytest.raises(StartFailed):
        wait(engine, clock, agent)


def test_a_failure_carries_the_last_lines_of_the_output(engine, clock, agent):
    box = engine.add(NAME, Program.FAILS, log_tail="2")
    box.begin()
    box.output = "one\ntwo\nthree\n"
    with pytest.raises(StartFailed) as raised:
        wait(engine, clock, agent)
    assert raised.value.log_tail == "two\nthree\n"


def test_a_tail_of_none_is_none(engine, clock, agent):
    engine.add(NAME, Program.FAILS, log_tail="0").begin()
    with pytest.raises(StartFailed) as raised:
        wait(engine, clock, agent)
    assert raised.value.log_tail == ""


def test_long_output_is_cut_to_its_end(engine, clock, agent):
    box = engine.add(NAME, Program.FAILS)
    box.begin()
    box.output = "x" * 100_000 + "the end"
    with pytest.raises(StartFailed) as raised:
        wait(engine, clock, agent)
    assert len(raised.value.log_tail) < 10_000
    assert raised.value.log_tail.endswith("the end")


def test_output_with_nul_can_be_kept(engine, clock, agent):
    box = engine.add(NAME, Program.FAILS)
    box.begin()
    box.output = "a\0b"
    with pytest.raises(StartFailed) as raised:
        wait(engine, clock, agent)
    assert raised.value.log_tail == "a\N{REPLACEMENT CHARACTER}b"


def test_labels_that_break_meanwhile_are_raised(engine, clock, agent, box):
    box.begin()
    box.labels["dormouse.idle-timeout"] = "soon"
    with pytest.raises(LabelError):
        wait(engine, clock, agent)


def test_one_that_vanishes_meanwhile_is_missing(engine, clock, agent):
    with pytest.raises(Missing):
        wait(engine, clock, agent)
