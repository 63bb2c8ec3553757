"""How ready instances end by themselves: one event each, unless a person asked the engine for it."""

import signal

import pytest
from django.db import DatabaseError

from lifecycle.models import EndNote, Instance
from lifecycle.state_machine import State
from tests.lifecycle.conftest import NAME, leased, row, stop_idle, use


@pytest.fixture
def ready(lifecycle, box, events, reconciler):
    use(lifecycle)
    reconciler.reconcile()
    events.clear()
    return box


def look(reconciler, clock, times=4):
    """Some sweeps, a second apart, that were told of an engine's event."""
    for _ in range(times):
        reconciler.mark_for_inspection(NAME)
        reconciler.reconcile()
        clock.go(1)


def ends(events):
    return [data for type, data in events if type == "exited"]


FACTS = {"cause": "exited", "ran_seconds": 180.0, "work_in_flight": 0, "log_tail": "this is run 1\n", "run": 1}


def test_one_that_ends_by_itself_is_told_once(ready, reconciler, events, clock):
    ready.end(3)
    look(reconciler, clock)
    assert events.only("exited") == {"instance": NAME, "exit_code": 3} | FACTS
    assert row().state == State.ASLEEP
    assert row().exit["exit_code"] == 3


def test_a_clean_end_is_told_and_is_no_trouble(ready, reconciler, events, clock):
    ready.end(0)
    look(reconciler, clock)
    assert events.only("exited")["exit_code"] == 0
    assert row().exit is None


def test_out_of_memory_needs_the_code_of_a_kill(ready, reconciler, events, clock):
    ready.oom = True
    ready.end(0)
    look(reconciler, clock)
    assert events.only("exited")["cause"] == "exited"


def test_out_of_memory_is_told(ready, reconciler, events, clock):
    ready.oom = True
    ready.end(137)
    look(reconciler, clock)
    assert events.only("exited")["cause"] == "oom"


@pytest.mark.parametrize(
    ("code", "signals"),
    [
        (0, [signal.SIGTERM]),
        (137, [signal.SIGTERM, signal.SIGKILL]),
        (130, [signal.SIGINT]),
        (0, [signal.SIGQUIT]),
        (128 + signal.SIGUSR1, [signal.SIGUSR1]),
    ],
)
def test_what_a_person_asked_for_is_no_event(ready, reconciler, events, clock, code, signals):
    ready.end(code, *signals)
    look(reconciler, clock)
    assert events.types == []
    assert row().state == State.ASLEEP


def test_a_signal_that_does_not_end_it_excuses_no_later_crash(ready, reconciler, events, clock):
    ready.end(3, signal.SIGWINCH)
    look(reconciler, clock)
    assert events.only("exited")["exit_code"] == 3


def test_work_in_flight_is_counted(ready, lifecycle, reconciler, events, clock):
    with leased(lifecycle), leased(lifecycle):
        ready.end(0)
        look(reconciler, clock)
    assert events.only("exited")["work_in_flight"] == 2
    assert row().exit["work_in_flight"] == 2


def test_work_that_broke_off_just_before_is_counted(ready, lifecycle, reconciler, events, clock):
    with leased(lifecycle) as first, leased(lifecycle) as second:
        first.lease.broke_off = second.lease.broke_off = 1
    ready.end(3)
    look(reconciler, clock)
    assert events.only("exited")["work_in_flight"] == 2


def test_work_that_broke_off_long_before_is_not(ready, lifecycle, reconciler, events, clock):
    with leased(lifecycle) as found:
        found.lease.broke_off = 1
    clock.go(5)
    ready.end(3)
    look(reconciler, clock)
    assert events.only("exited")["work_in_flight"] == 0


def test_an_end_that_was_not_watched_says_so(ready, engine, reconciler, events, clock):
    engine.is_deaf = True
    ready.end(143)
    look(reconciler, clock)
    assert events.only("exited") == {"instance": NAME, "exit_code": 143, "unobserved": True} | FACTS
    assert row().exit is None


def test_an_event_of_the_engine_that_comes_late_is_waited_for(ready, engine, reconciler, events, clock):
    engine.is_deaf = True
    ready.end(143, signal.SIGTERM)
    look(reconciler, clock, 1)
    engine.is_deaf = False
    look(reconciler, clock)
    assert events.types == []
    assert row().state == State.ASLEEP


def test_one_that_is_removed_has_no_code(ready, engine, reconciler, events, clock):
    engine.is_deaf = True
    del engine.boxes[NAME]
    look(reconciler, clock)
    told = events.only("exited")
    assert (told["exit_code"], told["log_tail"], told["unobserved"]) == (None, "", True)


def test_one_that_the_engine_starts_again_is_told_and_adopted(ready, reconciler, events, clock):
    ready.end(3)
    ready.begin()
    look(reconciler, clock)
    told = events.only("exited")
    assert (told["exit_code"], told["log_tail"], told["run"]) == (3, "", 1)
    assert (row().state, row().incarnation, row().adopted) == (State.READY, ready.incarnation, True)


def test_the_end_of_one_that_others_started_names_no_run(box, lifecycle, reconciler, events, clock):
    box.begin()
    reconciler.reconcile()
    box.end(3)
    look(reconciler, clock)
    assert "run" not in events.only("exited")


def test_what_ends_while_it_is_stopped_is_no_other_event(ready, lifecycle, engine, reconciler, events, clock):
    clock.go(60)
    engine.before["stop"] = [lambda: ready.end(3)]
    stop_idle(lifecycle)
    look(reconciler, clock)
    assert events.types == ["lazy_stopped"]


def test_one_that_is_paused_has_not_ended(ready, reconciler, events, clock):
    ready.between = "paused"
    look(reconciler, clock)
    assert events.types == []


# A dispatch that finds it dead


def test_a_dispatch_leaves_a_note_which_is_told_later(ready, lifecycle, reconciler, events, clock):
    ready.end(3)
    use(lifecycle)
    assert events.types == ["lazy_started"]
    look(reconciler, clock)
    look(reconciler, clock)
    assert events.types == ["lazy_started", "exited"]
    assert ends(events)[0] == {"instance": NAME, "exit_code": 3, "at": ends(events)[0]["at"]} | FACTS
    assert not EndNote.objects.exists()
    assert row().exit is None, "it works again"


def test_a_note_of_what_a_person_asked_for_is_removed(ready, lifecycle, reconciler, events, clock):
    ready.end(143, signal.SIGTERM)
    use(lifecycle)
    look(reconciler, clock)
    assert events.types == ["lazy_started"]
    assert not EndNote.objects.exists()


def test_a_note_is_told_even_if_nothing_was_heard(ready, engine, lifecycle, reconciler, events, clock):
    engine.is_deaf = True
    ready.end(3)
    use(lifecycle)
    look(reconciler, clock)
    assert ends(events)[0]["unobserved"]


def test_a_dispatch_that_finds_it_gone_leaves_a_note(ready, engine, lifecycle, reconciler, events, clock):
    del engine.boxes[NAME]
    engine.is_deaf = True
    with pytest.raises(Exception, match="does not have it any more"):
        lifecycle.waking.wake(NAME)
    look(reconciler, clock)
    assert sorted(events.types) == ["exited", "lazy_start_failed"]


def test_a_dispatch_that_finds_another_incarnation_leaves_a_note(ready, lifecycle, reconciler, events, clock):
    ready.end(3)
    ready.begin()
    use(lifecycle)
    look(reconciler, clock)
    assert events.only("exited")["exit_code"] == 3


# The transaction


def test_if_it_cannot_be_told_it_is_still_ready_and_told_later(ready, reconciler, events, clock):
    ready.end(3)
    events.troubles = [DatabaseError("the disk is full")]
    with pytest.raises(DatabaseError):
        look(reconciler, clock)
    assert row().state == State.READY
    look(reconciler, clock)
    assert events.types == ["exited"]


def test_a_note_that_cannot_be_told_stays(ready, lifecycle, reconciler, events, clock):
    ready.end(3)
    use(lifecycle)
    events.troubles = [DatabaseError("the disk is full")]
    with pytest.raises(DatabaseError):
        look(reconciler, clock)
    look(reconciler, clock)
    assert events.types == ["lazy_started", "exited"]


def test_two_supervisors_tell_one_event(ready, lifecycle, reconciler, events, clock):
    stale = Instance.objects.get()
    ready.end(3)
    look(reconciler, clock)
    assert not lifecycle.ending.settle(stale, None, lambda: Instance.objects.mark_asleep(stale, now=clock.now()))
    assert events.types == ["exited"]


def test_it_works_again_when_it_is_ready_again(ready, lifecycle, reconciler, clock):
    ready.end(3)
    look(reconciler, clock)
    assert row().exit
    use(lifecycle)
    assert row().exit is None
