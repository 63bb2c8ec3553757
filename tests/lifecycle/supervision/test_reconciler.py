"""What others do is seen, respected, and no event is invented for it (rule 10)."""

import signal
from dataclasses import replace
from datetime import timedelta

import pytest

from lifecycle.exceptions import EngineRefused, EngineUnreachable, LabelError
from lifecycle.models import EngineStatus, Instance
from lifecycle.state_machine import State
from lifecycle.supervision.reconciler import READ_AGAIN_SECONDS
from tests.lifecycle.conftest import NAME, leased, make_row, row, stop_idle
from tests.lifecycle.fake_engine import raising


def woken(lifecycle):
    with leased(lifecycle):
        pass


def test_a_new_instance_is_known_and_asleep(reconciler, box, clock):
    reconciler.reconcile()
    found = row()
    assert (found.state, found.since, found.idle_timeout) == (State.ASLEEP, clock.now(), timedelta(minutes=1))


def test_one_found_running_is_adopted_and_its_idle_clock_begins_now(reconciler, box, clock, events):
    box.begin()
    reconciler.reconcile()
    found = row()
    assert (found.state, found.probed, found.last_used) == (State.READY, False, clock.now())
    assert found.incarnation == box.incarnation
    assert events == []


def test_its_idle_clock_is_not_set_anew_at_every_look(reconciler, box, clock):
    box.begin()
    reconciler.reconcile()
    first = row().last_used
    clock.go(30)
    reconciler.reconcile()
    assert row().last_used == first


def test_one_found_running_is_stopped_when_it_is_idle(reconciler, lifecycle, box, clock, events):
    box.begin()
    reconciler.reconcile()
    clock.go(60)
    stop_idle(lifecycle)
    assert not box.running
    assert events.types == ["lazy_stopped"]


def test_one_that_others_stopped_is_asleep(reconciler, lifecycle, box, events):
    woken(lifecycle)
    box.end(0, signal.SIGTERM)
    reconciler.reconcile()
    assert row().state == State.ASLEEP
    assert events.types == ["lazy_started"]


def test_one_that_others_stopped_and_started_between_two_looks_is_probed_at_its_dispatch(
    reconciler, lifecycle, agent, box, events
):
    woken(lifecycle)
    box.end(0, signal.SIGTERM)
    box.begin()
    reconciler.reconcile()
    woken(lifecycle)
    assert agent.asked == 2
    assert events.types == ["lazy_started"]


def test_one_that_is_gone_is_kept_and_said_to_be_gone(reconciler, lifecycle, engine, box):
    woken(lifecycle)
    box.end(137, signal.SIGKILL)
    engine.boxes.clear()
    reconciler.reconcile()
    assert (row().present, row().state) == (False, State.ASLEEP)


def test_one_that_comes_back_is_said_to_be_there(reconciler, engine, box):
    reconciler.reconcile()
    engine.boxes.clear()
    reconciler.reconcile()
    engine.boxes[NAME] = box
    reconciler.reconcile()
    assert row().present


@pytest.mark.parametrize("state", [State.STARTING, State.STOPPING])
@pytest.mark.parametrize("running", [True, False])
def test_a_claim_is_its_owners_alone(reconciler, lifecycle, clock, box, state, running):
    make_row(clock, state, owner=lifecycle.worker.id)
    if running:
        box.begin()
    reconciler.reconcile()
    assert (row().state, row().owner) == (state, lifecycle.worker.id)


def test_a_row_that_changes_after_it_was_read_is_left_alone(reconciler, lifecycle, engine, clock, box):
    """A dispatch wakes it between the list and the change of its row."""
    reconciler.reconcile()
    box.begin()
    engine.before["inspect"] = [lambda: Instance.objects.update(state=State.STARTING, version=9)]
    reconciler.reconcile()
    assert row().state == State.STARTING


def test_an_engine_is_listed_once_however_many_instances_there_are(reconciler, engine):
    for number in range(50):
        engine.add(f"agent-{number}", ready="running")
    reconciler.reconcile()
    assert engine.count("instances") == 1


def test_when_nothing_changes_nothing_is_inspected(reconciler, engine):
    for number in range(10):
        engine.add(f"agent-{number}", ready="running").begin()
    reconciler.reconcile()
    engine.calls.clear()
    reconciler.reconcile()
    assert engine.calls == [("instances", "")]


def test_sleepers_are_inspected_a_few_at_a_time(reconciler, engine):
    for number in range(10):
        engine.add(f"agent-{number}", ready="running")
    for look in range(1, 6):
        reconciler.reconcile()
        assert engine.count("inspect") == 2 * look


def test_when_nothing_changes_nothing_is_written(reconciler, box, django_assert_num_queries):
    reconciler.reconcile()
    reconciler.reconcile()
    with django_assert_num_queries(4) as queries:
        reconciler.reconcile()
    assert all(query["sql"].startswith("SELECT") for query in queries)


def test_a_label_error_is_shown_and_stops_no_other(reconciler, engine, box):
    engine.add("broken", idle_timeout="soon", ready="running")
    reconciler.reconcile()
    assert row("broken").label_error.startswith("broken: dormouse.idle-timeout='soon' is no duration")
    assert row().label_error == ""


def test_a_label_error_goes_when_the_container_is_made_anew(reconciler, engine):
    engine.add(NAME, idle_timeout="soon", ready="running")
    reconciler.reconcile()
    engine.add(NAME, idle_timeout="5m", ready="running")
    reconciler.reconcile()
    assert (row().label_error, row().idle_timeout) == ("", timedelta(minutes=5))


@pytest.fixture
def off_network(engine):
    """The names of instances whose labels are in error because they are on no network."""
    names, inspect = set(), engine.inspect

    def inspect_or_refuse(name):
        seen = inspect(name)
        return replace(seen, labels=LabelError(name, "port", "80", "cannot be reached")) if name in names else seen

    engine.inspect = inspect_or_refuse
    return names


def test_a_label_error_goes_soon_if_it_was_about_something_else(reconciler, box, clock, off_network):
    off_network.add(NAME)
    reconciler.reconcile()
    assert (row().label_error, row().idle_timeout) == (f"{NAME}: port='80' cannot be reached", None)
    off_network.clear()
    clock.go(READ_AGAIN_SECONDS)
    reconciler.reconcile()
    assert (row().label_error, row().idle_timeout) == ("", timedelta(minutes=1))


def test_labels_in_error_are_read_again_after_those_that_were_never_read(reconciler, engine, clock, off_network):
    for number in range(5):
        off_network.add(engine.add(f"a-bad-{number}", ready="running").name)
    for _ in range(3):
        reconciler.reconcile()
    reconciler.reconcile()
    assert engine.count("inspect") == 5
    clock.go(READ_AGAIN_SECONDS)
    engine.add("b-new", ready="running", idle_timeout="7m")
    reconciler.reconcile()
    assert row("b-new").idle_timeout == timedelta(minutes=7)
    assert engine.count("inspect") == 7


def test_one_with_labels_in_error_is_never_put_to_sleep(reconciler, lifecycle, engine, clock):
    box = engine.add(NAME, idle_timeout="soon", ready="running")
    box.begin()
    reconciler.reconcile()
    clock.go(10**6)
    stop_idle(lifecycle)
    assert box.running


def test_the_look_is_noted(reconciler, clock):
    reconciler.reconcile()
    status = EngineStatus.objects.get()
    assert (status.engine, status.asked, status.answered, status.error) == ("fake", clock.now(), clock.now(), "")


def test_an_engine_that_does_not_answer_is_noted_with_its_reason(reconciler, engine, clock):
    reconciler.reconcile()
    answered = clock.now()
    clock.go(60)
    engine.before["instances"] = [raising(EngineUnreachable("no engine answers"))]
    with pytest.raises(EngineUnreachable):
        reconciler.reconcile()
    status = EngineStatus.objects.get()
    assert (status.asked, status.answered, status.error) == (clock.now(), answered, "no engine answers")


def test_without_an_engine_nothing_is_held_for_gone(reconciler, lifecycle, engine, box):
    woken(lifecycle)
    engine.before["instances"] = [raising(EngineUnreachable("no engine answers"))]
    with pytest.raises(EngineUnreachable):
        reconciler.reconcile()
    assert (row().present, row().state) == (True, State.READY)


def test_an_engine_that_answers_again_is_noted_at_once(reconciler, engine):
    engine.before["instances"] = [raising(EngineUnreachable("no engine answers"))]
    with pytest.raises(EngineUnreachable):
        reconciler.reconcile()
    reconciler.reconcile()
    assert EngineStatus.objects.get().error == ""


class Hanging:
    """Inspections of one instance time out."""

    def __init__(self, engine, clock, names):
        self.engine, self.clock, self.names, self.asked = engine, clock, names, []
        self.inspect, engine.inspect = engine.inspect, self

    def __call__(self, name):
        self.asked.append(name)
        if name in self.names:
            self.clock.go(10)
            raise EngineUnreachable("the Docker Engine does not answer in time")
        return self.inspect(name)


def test_an_instance_whose_inspection_hangs_does_not_hold_the_others_up(reconciler, lifecycle, engine, box, clock):
    stuck = engine.add("a-stuck-one", ready="running")
    box.begin()
    stuck.begin()
    hanging = Hanging(engine, clock, {"a-stuck-one"})
    reconciler.reconcile()
    assert row().state == State.READY
    assert EngineStatus.objects.get().error == ""
    hanging.asked.clear()
    clock.go(1)
    reconciler.reconcile()
    assert "a-stuck-one" not in hanging.asked
    hanging.names.clear()
    clock.go(30)
    reconciler.reconcile()
    assert row("a-stuck-one").state == State.READY


def test_two_that_hang_in_one_look_are_an_engine_that_does(reconciler, engine, box, clock):
    for name in ("one", "other"):
        engine.add(name, ready="running").begin()
    Hanging(engine, clock, {"one", "other"})
    with pytest.raises(EngineUnreachable):
        reconciler.reconcile()
    assert EngineStatus.objects.get().error


def test_the_labels_of_one_that_is_being_started_are_read_later(reconciler, engine, box, clock):
    make_row(clock, State.STARTING)
    hanging = Hanging(engine, clock, {NAME})
    reconciler.reconcile()
    assert hanging.asked == []


def test_an_unforeseen_error_about_one_instance_costs_no_other_its_sweep(reconciler, engine, box, clock):
    odd = engine.add("an-odd-one", port="8081")
    box.begin()
    odd.begin()
    inspect = engine.inspect

    def inspect_or_fail(name):
        if name == "an-odd-one":
            raise ZeroDivisionError("oops")
        return inspect(name)

    engine.inspect = inspect_or_fail
    reconciler.reconcile()
    assert row().state == State.READY
    assert "an-odd-one is left out of the sweep" in EngineStatus.objects.get().error
    reconciler.reconcile()
    assert "ZeroDivisionError('oops')" in EngineStatus.objects.get().error
    engine.inspect = inspect
    clock.go(30)
    reconciler.reconcile()
    assert (row("an-odd-one").state, EngineStatus.objects.get().error) == (State.READY, "")


def test_a_refused_inspection_costs_no_other_its_sweep(reconciler, engine, box):
    for name in ("z", "a", "b"):
        engine.add(name, port="8081").begin()
    box.begin()
    engine.before["inspect"] = [raising(EngineRefused("no")) for _ in range(3)]
    reconciler.reconcile()
    assert row("b").state == State.READY


def test_a_failed_sweep_is_a_sentence_until_one_succeeds(reconciler, box):
    reconciler.note_failed_sweep(KeyError("x"))
    status = EngineStatus.objects.get()
    assert status.error == "the sweep failed (KeyError('x')); Dormouse's log has the details"
    assert status.answered == status.asked
    reconciler.reconcile()
    assert EngineStatus.objects.get().error == ""


def test_near_misses_are_looked_for_once_a_minute(reconciler, engine, clock):
    misses = [["web: no"], [], []]
    engine.near_misses = lambda: misses.pop(0)
    reconciler.reconcile()
    assert EngineStatus.objects.get().near_misses == ["web: no"]
    reconciler.reconcile()
    assert len(misses) == 2
    clock.go(60)
    reconciler.reconcile()
    assert EngineStatus.objects.get().near_misses == []


def test_it_is_noted_since_when_the_engine_has_lost_an_instance(reconciler, engine, box, clock):
    reconciler.reconcile()
    del engine.boxes[NAME]
    reconciler.reconcile()
    gone = clock.now()
    clock.go(60)
    reconciler.reconcile()
    assert (row().present, row().absent_since) == (False, gone)
    engine.boxes[NAME] = box
    reconciler.reconcile()
    assert (row().present, row().absent_since) == (True, None)
