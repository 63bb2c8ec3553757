"""Instances that need others: those are woken first, and stay awake as long as one that needs them is awake."""

import uuid

import pytest

from lifecycle.exceptions import Cause, LabelError, StartFailed
from lifecycle.models import Instance
from lifecycle.state_machine import State
from lifecycle.supervision.reconciler import Reconciler
from lifecycle.transitions.starts.needs import find_circle
from tests.lifecycle.conftest import NAME, make_row, recover, row, stop_idle, use
from tests.lifecycle.fake_engine import Program

NEEDED = "database-default"


@pytest.fixture
def needed(engine):
    return engine.add(NEEDED, idle_timeout="1m", ready="running")


@pytest.fixture
def box(engine):
    return engine.add(NAME, idle_timeout="1m", port="8080", needs=NEEDED)


@pytest.mark.parametrize(
    ("needs", "circle"),
    [
        ({"a": ["b"]}, None),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"]}, None),
        ({"a": ["a"]}, ["a"]),
        ({"a": ["b"], "b": ["a"]}, ["a", "b"]),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": ["a"]}, ["a", "b", "d"]),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, None),
    ],
)
def test_a_circle_is_a_way_back_to_the_instance_itself(needs, circle):
    assert find_circle("a", lambda name: needs.get(name, [])) == circle


def test_what_it_needs_is_started_first(lifecycle, engine, needed, box, events):
    use(lifecycle)
    assert [name for call, name in engine.calls if call == "start"] == [NEEDED, NAME]
    first, second = (data for _, data in events)
    assert (first["instance"], first["trigger"]) == (NEEDED, "needed")
    assert (second["instance"], second["trigger"], second["needs_ms"]) == (NAME, "dispatch", second["latency_ms"])


def test_the_latency_holds_the_time_for_what_it_needs(lifecycle, engine, clock, needed, box, events):
    engine.after["start"] = [lambda: clock.go(3), lambda: clock.go(0.5)]
    use(lifecycle)
    told = events[1][1]
    assert (told["needs_ms"], told["start_ms"]) == (3100, 500)
    assert told["latency_ms"] == 3600


def test_what_is_ready_is_not_started_again(lifecycle, engine, needed, box, events):
    lifecycle.waking.wake(NAME)
    needed_run = needed.run
    box.end(0)
    lifecycle.waking.wake(NAME)
    assert needed.run == needed_run


def test_what_an_awake_one_needs_is_not_put_to_sleep(lifecycle, clock, needed, box):
    use(lifecycle)
    clock.go(59)
    with_work = lifecycle.leases.take(NAME)
    clock.go(3600)
    stop_idle(lifecycle)
    assert needed.running
    lifecycle.leases.give_back(with_work.lease)


def test_its_idle_time_begins_when_the_last_that_needs_it_sleeps(lifecycle, engine, clock, needed, box, events):
    engine.add("other-default", idle_timeout="2m", port="8081", needs=NEEDED)
    use(lifecycle)
    use(lifecycle, "other-default")
    clock.go(60)
    stop_idle(lifecycle)
    assert (box.running, needed.running) == (False, True)
    clock.go(60)
    stop_idle(lifecycle)
    assert (engine.boxes["other-default"].running, needed.running) == (False, True)
    clock.go(59)
    stop_idle(lifecycle)
    assert needed.running
    clock.go(1)
    stop_idle(lifecycle)
    assert not needed.running
    stopped = [data["instance"] for type, data in events if type == "lazy_stopped"]
    assert stopped == [NAME, "other-default", NEEDED]


def test_a_claim_between_the_look_and_the_stop_wins(lifecycle, clock, needed, box):
    lifecycle.waking.wake(NAME)
    box.end(0)
    Instance.objects.mark_asleep(row(), now=clock.now())
    clock.go(60)
    (idle,) = lifecycle.stopping.find_idle()
    assert idle.name == NEEDED
    lifecycle.waking.wake(NAME)
    lifecycle.stopping.stop_idle(idle)
    assert (needed.running, box.running) == (True, True)


def test_one_that_fails_is_named(lifecycle, engine, needed, box, events):
    needed.program = Program.FAILS
    with pytest.raises(StartFailed) as raised:
        use(lifecycle)
    error = f"needs {NEEDED}: {NEEDED} failed to start: exited with code 3 before it was ready"
    assert (raised.value.cause, raised.value.error) == (Cause.DEPENDENCY, error)
    assert [(type, data["instance"], data["cause"]) for type, data in events] == [
        ("lazy_start_failed", NEEDED, "exited"),
        ("lazy_start_failed", NAME, "dependency"),
    ]
    assert (box.run, row().state) == (0, State.ASLEEP)


def test_one_that_is_missing_is_named(lifecycle, box, events):
    with pytest.raises(StartFailed, match=f"needs {NEEDED}, which the engine does not have"):
        use(lifecycle)
    assert events.only("lazy_start_failed")["cause"] == "dependency"


def test_a_failure_far_away_names_the_way_to_it(lifecycle, engine, box):
    engine.add(NEEDED, port="8081", needs="disk-default")
    engine.add("disk-default", Program.MISSING, port="8082")
    with pytest.raises(StartFailed, match=f"needs {NEEDED}: {NEEDED} failed to start: needs disk-default: disk-def"):
        use(lifecycle)


def test_a_circle_is_a_label_error_and_starts_nothing(lifecycle, engine, needed, box, events):
    needed.labels["dormouse.needs"] = NAME
    with pytest.raises(LabelError) as raised:
        use(lifecycle)
    said = f"{NAME}: dormouse.needs='{NEEDED}' is a circle: {NAME} needs {NEEDED}, which needs {NAME}"
    assert str(raised.value) == said
    assert (events, engine.count("start")) == ([], 0)


def test_a_circle_is_shown_until_it_is_mended(lifecycle, engine, needed, box):
    needed.labels["dormouse.needs"] = NAME
    reconciler = Reconciler(lifecycle)
    for _ in range(2):
        reconciler.reconcile()
    assert row().label_error.startswith(f"{NAME}: dormouse.needs='{NEEDED}' is a circle")
    assert row(NEEDED).label_error
    needed.labels = {name: text for name, text in needed.labels.items() if name != "dormouse.needs"}
    for _ in range(3):
        reconciler.reconcile()
    assert (row().label_error, row(NEEDED).label_error) == ("", "")


def test_the_end_of_what_it_needs_leaves_it_running_and_the_next_dispatch_wakes_that(lifecycle, needed, box, events):
    use(lifecycle)
    needed.end(1)
    Reconciler(lifecycle).reconcile()
    assert (box.running, row().state, row(NEEDED).state) == (True, State.READY, State.ASLEEP)
    use(lifecycle)
    assert (box.run, needed.run) == (1, 2)


def test_one_at_work_without_what_it_needs_is_not_told_to_have_failed(lifecycle, needed, box, events):
    use(lifecycle)
    needed.end(1)
    needed.program = Program.MISSING
    Reconciler(lifecycle).reconcile()
    events.clear()
    with pytest.raises(StartFailed) as raised:
        use(lifecycle)
    assert raised.value.cause == Cause.DEPENDENCY
    assert events.only("lazy_start_failed")["instance"] == NEEDED
    assert (box.running, row().state) == (True, State.READY)


def test_one_whose_worker_died_while_it_waited_for_what_it_needs_is_interrupted(lifecycle, clock, needed, box, events):
    make_row(clock, State.STARTING, owner=uuid.uuid4(), run=7, needs=[NEEDED])
    recover(lifecycle)
    told = events.only("lazy_start_failed")
    assert (told["cause"], told["recovered"], needed.run) == ("interrupted", True, 0)
