"""What others do is seen, respected, and no event is invented for it (rule 10)."""

from datetime import timedelta

import pytest

from lifecycle.exceptions import EngineUnreachable
from lifecycle.models import EngineSight, Instance, State
from lifecycle.supervision.observation import Observer
from tests.lifecycle.conftest import NAME, make_row, row
from tests.lifecycle.fake_engine import raising


@pytest.fixture
def observer(lifecycle):
    return Observer(lifecycle)


def woken(lifecycle):
    with lifecycle.use(NAME):
        pass


def test_a_new_instance_is_known_and_asleep(observer, box, clock):
    observer.look()
    found = row()
    assert (found.state, found.since, found.idle_timeout) == (State.ASLEEP, clock.now(), timedelta(minutes=1))


def test_one_found_running_is_adopted_and_its_idle_clock_begins_now(observer, box, clock, events):
    box.begin()
    observer.look()
    found = row()
    assert (found.state, found.probed, found.last_used) == (State.READY, False, clock.now())
    assert found.incarnation == box.incarnation
    assert events == []


def test_its_idle_clock_is_not_set_anew_at_every_look(observer, box, clock):
    box.begin()
    observer.look()
    first = row().last_used
    clock.go(30)
    observer.look()
    assert row().last_used == first


def test_one_found_running_is_stopped_when_it_is_idle(observer, lifecycle, box, clock, events):
    box.begin()
    observer.look()
    clock.go(60)
    lifecycle.stop_idle()
    assert not box.running
    assert events.types == ["lazy_stopped"]


def test_one_that_others_stopped_is_asleep(observer, lifecycle, box, events):
    woken(lifecycle)
    box.end(0)
    observer.look()
    assert row().state == State.ASLEEP
    assert events.types == ["lazy_started"]


def test_one_that_others_stopped_and_started_between_two_looks_is_probed_at_its_dispatch(
    observer, lifecycle, agent, box, events
):
    woken(lifecycle)
    box.end(0)
    box.begin()
    observer.look()
    woken(lifecycle)
    assert agent.asked == 2
    assert events.types == ["lazy_started"]


def test_one_that_is_gone_is_kept_and_said_to_be_gone(observer, lifecycle, engine, box):
    woken(lifecycle)
    engine.boxes.clear()
    observer.look()
    assert (row().present, row().state) == (False, State.ASLEEP)


def test_one_that_comes_back_is_said_to_be_there(observer, engine, box):
    observer.look()
    engine.boxes.clear()
    observer.look()
    engine.boxes[NAME] = box
    observer.look()
    assert row().present


@pytest.mark.parametrize("state", [State.STARTING, State.STOPPING])
@pytest.mark.parametrize("running", [True, False])
def test_a_claim_is_its_owners_alone(observer, lifecycle, clock, box, state, running):
    make_row(clock, state, owner=lifecycle.worker.id)
    if running:
        box.begin()
    observer.look()
    assert (row().state, row().owner) == (state, lifecycle.worker.id)


def test_a_row_that_changes_after_it_was_read_is_left_alone(observer, lifecycle, engine, clock, box):
    """Between the list and the change, a dispatch woke it."""
    observer.look()
    box.begin()
    engine.before["inspect"] = [lambda: Instance.objects.update(state=State.STARTING, version=9)]
    observer.look()
    assert row().state == State.STARTING


def test_an_engine_is_listed_once_however_many_instances_there_are(observer, engine):
    for number in range(50):
        engine.add(f"agent-{number}", ready="running")
    observer.look()
    assert engine.count("instances") == 1


def test_when_nothing_changes_nothing_is_inspected(observer, engine):
    for number in range(10):
        engine.add(f"agent-{number}", ready="running").begin()
    observer.look()
    engine.calls.clear()
    observer.look()
    assert engine.calls == [("instances", "")]


def test_sleepers_are_inspected_a_few_at_a_time(observer, engine):
    for number in range(10):
        engine.add(f"agent-{number}", ready="running")
    for look in range(1, 6):
        observer.look()
        assert engine.count("inspect") == 2 * look


def test_when_nothing_changes_nothing_is_written(observer, box, django_assert_num_queries):
    observer.look()
    observer.look()
    with django_assert_num_queries(2) as queries:
        observer.look()
    assert all(query["sql"].startswith("SELECT") for query in queries)


def test_a_label_error_is_shown_and_stops_no_other(observer, engine, box):
    engine.add("broken", idle_timeout="soon", ready="running")
    observer.look()
    assert row("broken").label_error.startswith("broken: dormouse.idle-timeout='soon' is no duration")
    assert row().label_error == ""


def test_a_label_error_goes_when_the_container_is_made_anew(observer, engine):
    engine.add(NAME, idle_timeout="soon", ready="running")
    observer.look()
    engine.add(NAME, idle_timeout="5m", ready="running")
    observer.look()
    assert (row().label_error, row().idle_timeout) == ("", timedelta(minutes=5))


def test_one_with_labels_in_error_is_never_put_to_sleep(observer, lifecycle, engine, clock):
    box = engine.add(NAME, idle_timeout="soon", ready="running")
    box.begin()
    observer.look()
    clock.go(10**6)
    lifecycle.stop_idle()
    assert box.running


def test_the_look_is_noted(observer, clock):
    observer.look()
    sight = EngineSight.objects.get()
    assert (sight.engine, sight.asked, sight.answered, sight.error) == ("fake", clock.now(), clock.now(), "")


def test_an_engine_that_does_not_answer_is_noted_with_its_reason(observer, engine, clock):
    observer.look()
    answered = clock.now()
    clock.go(60)
    engine.before["instances"] = [raising(EngineUnreachable("nobody there"))]
    with pytest.raises(EngineUnreachable):
        observer.look()
    sight = EngineSight.objects.get()
    assert (sight.asked, sight.answered, sight.error) == (clock.now(), answered, "nobody there")


def test_without_an_engine_nothing_is_held_for_gone(observer, lifecycle, engine, box):
    woken(lifecycle)
    engine.before["instances"] = [raising(EngineUnreachable("nobody there"))]
    with pytest.raises(EngineUnreachable):
        observer.look()
    assert (row().present, row().state) == (True, State.READY)


def test_an_engine_that_answers_again_is_noted_at_once(observer, engine):
    engine.before["instances"] = [raising(EngineUnreachable("nobody there"))]
    with pytest.raises(EngineUnreachable):
        observer.look()
    observer.look()
    assert EngineSight.objects.get().error == ""


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


def test_one_whose_inspection_hangs_keeps_nobody_from_the_others(observer, lifecycle, engine, box, clock):
    stuck = engine.add("a-stuck-one", ready="running")
    box.begin()
    stuck.begin()
    hanging = Hanging(engine, clock, {"a-stuck-one"})
    observer.look()
    assert row().state == State.READY
    assert EngineSight.objects.get().error == ""
    hanging.asked.clear()
    clock.go(1)
    observer.look()
    assert "a-stuck-one" not in hanging.asked
    hanging.names.clear()
    clock.go(30)
    observer.look()
    assert row("a-stuck-one").state == State.READY


def test_two_that_hang_in_one_look_are_an_engine_that_does(observer, engine, box, clock):
    for name in ("one", "other"):
        engine.add(name, ready="running").begin()
    Hanging(engine, clock, {"one", "other"})
    with pytest.raises(EngineUnreachable):
        observer.look()
    assert EngineSight.objects.get().error


def test_the_labels_of_one_that_is_being_started_are_read_later(observer, engine, box, clock):
    make_row(clock, State.STARTING)
    hanging = Hanging(engine, clock, {NAME})
    observer.look()
    assert hanging.asked == []
