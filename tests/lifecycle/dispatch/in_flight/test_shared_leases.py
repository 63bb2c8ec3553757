"""One lease stands for all the work that a process has in an instance, and a dispatch that finds it writes nothing."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from lifecycle.dispatch.in_flight.shared_leases import SharedLeases
from lifecycle.dispatch.inspections import Inspections
from lifecycle.exceptions import Disabled
from lifecycle.models import Instance, Lease
from lifecycle.orders import Order, Trigger
from lifecycle.state_machine import State
from tests.lifecycle.conftest import NAME, make_row, row
from tests.lifecycle.fake_engine import raising

DISPATCH = Order(Trigger.DISPATCH)


@pytest.fixture
def ready(lifecycle, box, clock):
    """Provide an instance that is ready and that runs."""
    box.begin()
    values = {"incarnation": box.incarnation, "run": 1, "probed": True, "last_used": clock.now()}
    return make_row(clock, State.READY, idle_timeout=timedelta(minutes=1), **values)


@pytest.fixture
def inspections(engine, clock):
    """Provide inspections of an engine whose events can be heard."""
    inspections = Inspections(engine, clock)
    inspections._is_watching = inspections._is_connected = True
    return inspections


@pytest.fixture
def shared(lifecycle, inspections, clock, ready, monkeypatch):
    """Provide shared leases without a keeper's thread: the tests call `keep`."""
    monkeypatch.setattr(SharedLeases, "_keep_in_thread", lambda self: None)
    return SharedLeases(lifecycle.leases, inspections, lifecycle.worker, clock, lambda work: work())


def take(shared, work_for="", *, may_recall=True):
    """Begin a piece of work as a dispatch does. Return what it holds."""
    hold = shared.begin(NAME, Order(Trigger.DISPATCH, work_for=work_for))
    assert shared.take(hold, may_recall=may_recall)
    return hold


def begin_next(engine):
    """Another container gets the name, and is ready."""
    box = engine.add(NAME, idle_timeout="1m", port="8080")
    box.begin()
    Instance.objects.filter(pk=NAME).update(incarnation=box.incarnation, run=2)


def is_idle(lifecycle):
    return [found.name for found in lifecycle.stopping.find_idle()] == [NAME]


def test_all_work_has_one_lease_that_tells_how_much_it_is(shared, clock):
    began = clock.now()
    take(shared, "PR 1")
    clock.go(1)
    take(shared, "PR 2")
    take(shared, "PR 1")
    shared.keep()
    lease = Lease.objects.get()
    assert (lease.works, lease.since, lease.purposes) == (3, began, ["PR 1", "PR 2"])
    assert lease.ordered == {"for": "PR 1"}


def test_a_lease_tells_ten_purposes_at_most(shared, clock):
    for number in range(12):
        take(shared, f"PR {number}")
    clock.go(1)
    shared.keep()
    lease = Lease.objects.get()
    assert (lease.works, len(lease.purposes)) == (12, 10)


def test_the_lease_is_written_once_a_second_at_most(shared, clock):
    take(shared)
    take(shared)
    clock.go(0.9)
    shared.keep()
    assert Lease.objects.get().works == 1
    clock.go(0.1)
    shared.keep()
    assert Lease.objects.get().works == 2


def test_work_that_finds_a_lease_asks_the_database_once_and_the_engine_not_at_all(shared, engine):
    take(shared)
    take(shared)
    asked, version = engine.count("inspect"), row().version
    with CaptureQueriesContext(connection) as queries:
        take(shared)
    assert (len(queries), engine.count("inspect"), row().version) == (1, asked, version)


def test_work_on_a_new_connection_asks_the_engine(shared, engine):
    take(shared)
    asked = engine.count("inspect")
    take(shared, may_recall=False)
    assert engine.count("inspect") == asked + 1


def test_a_stop_that_has_read_the_row_before_the_lease_fails(shared, clock):
    stale = row()
    take(shared)
    stop = {"owner": shared._worker.id, "now": clock.now(), "idle_seconds": 0, "ordered": {}}
    assert not Instance.objects.claim_stop(stale, **stop)


def test_an_instance_with_a_shared_lease_is_never_idle(shared, lifecycle, clock):
    first, second = take(shared), take(shared)
    shared.end(first)
    clock.go(3600)
    shared.keep()
    assert not is_idle(lifecycle)
    shared.end(second)
    clock.go(59)
    shared.keep()
    assert (Lease.objects.exists(), is_idle(lifecycle)) == (False, False)
    clock.go(1)
    assert is_idle(lifecycle)


def test_the_lease_of_a_single_piece_of_work_ends_with_it(shared, clock):
    hold = take(shared)
    clock.go(5)
    shared.end(hold)
    assert not Lease.objects.exists()
    assert row().last_used == clock.now()


def test_the_lease_of_a_busy_instance_stays_for_the_next_work(shared, clock):
    """Two pieces of work, one right after the other: the second one's lease stays for half a second."""
    shared.end(take(shared))
    shared.end(take(shared))
    lease, ended = Lease.objects.get(), clock.now()
    clock.go(0.4)
    shared.keep()
    take(shared)
    assert Lease.objects.get() == lease
    shared.end(next(iter(shared._holds._joinable[NAME].holds)))
    ended = clock.now()
    clock.go(0.6)
    shared.keep()
    assert not Lease.objects.exists()
    assert row().last_used == ended


def test_a_lease_that_others_have_ended_is_made_again_before_anything_is_sent(shared):
    take(shared)
    take(shared)
    Lease.objects.all().delete()
    take(shared)
    assert Lease.objects.get().works == 3


def test_a_lease_that_others_have_ended_is_made_again_for_work_that_goes_on(shared, clock, lifecycle):
    take(shared)
    lifecycle.leases.end_those_of({lifecycle.worker.id})
    clock.go(1)
    shared.keep()
    assert Lease.objects.get().works == 1


def test_a_lease_that_others_have_ended_is_made_again_although_the_instance_was_disabled(shared, clock, lifecycle):
    """Work in flight ends before a disabled instance is put to sleep, also if its process was cut off for a while."""
    take(shared)
    Instance.objects.update(disabled={"at": "2026-11-23T18:55:30Z", "reason": "key rotated", "force": False})
    lifecycle.leases.end_those_of({lifecycle.worker.id})
    assert lifecycle.stopping.find_disabled()
    clock.go(1)
    shared.keep()
    assert Lease.objects.get().works == 1
    assert not lifecycle.stopping.find_disabled()


def test_after_a_heartbeat_that_was_overdue_the_lease_is_made_anew(shared, clock, lifecycle):
    """A process that was frozen: others may have taken it for dead, and be about to end its leases."""
    take(shared)
    take(shared)
    before, version = Lease.objects.get(), row().version
    clock.listeners.clear()  # no heartbeat
    clock.go(11)
    take(shared)
    assert not lifecycle.worker.heartbeat_overdue()
    assert Lease.objects.get().pk != before.pk
    assert row().version > version


@pytest.mark.parametrize("is_moved", [True, False])
def test_new_work_does_not_join_the_lease_of_a_renamed_container(shared, engine, clock, is_moved):
    """The work in flight is in the container that has another name now, also if its lease was not moved there yet."""
    moved = take(shared)
    engine.rename(NAME, "renamed")
    make_row(clock, State.READY, name="renamed")
    if is_moved:
        Lease.objects.update(instance="renamed")
    begin_next(engine)
    take(shared, may_recall=False)
    Lease.objects.filter(pk=moved.lease.row.pk).update(instance="renamed")
    assert sorted(Lease.objects.values_list("instance", "works")) == [("renamed", 1), (NAME, 1)]
    shared.end(moved)
    clock.go(1)
    shared.keep()
    assert [lease.instance_id for lease in Lease.objects.all()] == [NAME]


def test_work_leaves_a_lease_that_was_moved_although_other_work_has_left_and_ended(shared):
    first, second, third = (shared.begin(NAME, DISPATCH) for _ in range(3))
    shared._holds.leave(first)
    shared.end(first)
    shared._holds.leave(second)
    shared._holds.leave(third)
    assert second.lease is third.lease
    assert second.lease not in (first.lease, None)


def test_a_disabled_instance_gets_no_more_work(shared):
    take(shared)
    take(shared)
    Instance.objects.update(disabled={"at": "2026-11-23T18:55:30Z", "reason": "key rotated", "force": False})
    with pytest.raises(Disabled):
        take(shared)


@pytest.mark.parametrize("state", [State.ASLEEP, State.STARTING, State.STOPPING])
def test_work_is_not_sent_to_an_instance_that_has_left_ready(shared, state):
    """A person broke its work off: the lease is still there."""
    take(shared)
    take(shared)
    Instance.objects.update(state=state, version=F("version") + 1)
    assert shared.take(shared.begin(NAME, DISPATCH), may_recall=True) is None


def test_a_new_incarnation_is_leased_anew(shared, box, clock):
    hold = take(shared)
    take(shared)
    box.end(1)
    box.begin()
    assert shared.take(shared.begin(NAME, DISPATCH), may_recall=False) is None  # it must be adopted first
    Instance.objects.update(incarnation=box.incarnation, run=2, has_worked=False)
    take(shared, may_recall=False)
    assert row().has_worked
    assert Lease.objects.count() == 1
    shared.end(hold)


def test_what_the_engine_told_meanwhile_is_found(shared, box, inspections):
    take(shared)
    take(shared)
    box.end(1)
    inspections._forget(NAME)  # its event
    assert shared.take(shared.begin(NAME, DISPATCH), may_recall=True) is None


def test_an_inspection_of_another_dispatch_is_not_taken_for_the_one_that_was_compared(
    shared, box, inspections, lifecycle, monkeypatch
):
    """The instance was restarted between the comparison with its row and the next inspection."""
    take(shared)
    look_at = lifecycle.leases.look_at

    def restart_after_look(row, inspect):
        found = look_at(row, inspect)
        box.end(1)
        box.begin()
        inspections._forget(NAME)  # its event
        inspections.ask(NAME)  # for another dispatch
        return found

    with monkeypatch.context() as patch:
        patch.setattr(type(lifecycle.leases), "look_at", lambda self, row, inspect: restart_after_look(row, inspect))
        take(shared)
    assert shared.take(shared.begin(NAME, DISPATCH), may_recall=True) is None


def test_work_that_broke_off_is_counted_at_once(shared):
    """The end of an instance, which is told in a moment, tells how much work was in flight."""
    first, second = take(shared), take(shared)
    first.broke_off = True
    shared.end(first)
    assert (row().broke_off, Lease.objects.get().works) == (1, 1)
    second.broke_off = True
    shared.end(second)
    assert (row().broke_off, Lease.objects.exists()) == (2, False)


def test_an_end_that_the_database_refuses_is_tried_again(shared, monkeypatch):
    hold = take(shared)

    def refuse(*args, **values):
        raise DatabaseError("locked")

    with monkeypatch.context() as patch:
        patch.setattr(type(Instance.objects), "end_work", refuse)
        patch.setattr("lifecycle.dispatch.in_flight.shared_leases.connections.close_all", lambda: None)
        shared.end(hold)
        shared.keep()
    assert Lease.objects.exists()
    shared.keep()
    assert not Lease.objects.exists()


def test_a_caller_that_has_given_up_gets_no_lease(shared):
    hold = shared.begin(NAME, DISPATCH)
    shared.end(hold)
    assert shared.take(hold, may_recall=True) is None
    assert not Lease.objects.exists()


def test_at_the_end_of_the_process_the_leases_without_work_end(shared):
    shared.end(take(shared))
    shared.end(take(shared))
    assert Lease.objects.exists()
    shared.shut_down()
    assert not Lease.objects.exists()


def test_an_unforeseen_error_does_not_end_the_keeper(shared, clock, monkeypatch, caplog):
    """Without a keeper, the lease of a busy instance would keep it awake for ever."""
    shared.end(take(shared))
    shared.end(take(shared))
    clock.go(1)
    troubles, keep = [RuntimeError("unforeseen")], shared.keep

    def fail_once():
        if troubles:
            raise troubles.pop()
        keep()

    monkeypatch.setattr(shared, "keep", fail_once)
    monkeypatch.setattr("lifecycle.dispatch.in_flight.shared_leases.TICK_SECONDS", 0)
    monkeypatch.setattr("lifecycle.dispatch.in_flight.shared_leases.connections.close_all", lambda: None)
    shared._keep_while_needed()
    assert not Lease.objects.exists()
    assert "The leases could not be kept" in caplog.text


def test_if_the_system_gives_no_thread_the_next_dispatch_starts_the_keeper(lifecycle, inspections, clock):
    shared = SharedLeases(lifecycle.leases, inspections, lifecycle.worker, clock, lambda work: work())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("threading.Thread.start", lambda self: raising(RuntimeError("can't start new thread"))())
        with pytest.raises(RuntimeError):
            shared._keep_in_thread()
    assert shared._keeper is None
