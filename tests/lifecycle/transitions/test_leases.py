"""Leases keep an instance awake, and idle time begins when the last one has ended."""

import uuid

import pytest
from django.db import DatabaseError

from lifecycle.models import Instance, Lease
from lifecycle.state_machine import State
from lifecycle.transitions.leases import Leases
from lifecycle.workers.neighbours import Neighbours
from tests.lifecycle.conftest import make_row, row

pytestmark = pytest.mark.django_db
WORKER = uuid.uuid4()


@pytest.fixture
def leases(engine, clock):
    return Leases(engine, WORKER, clock, Neighbours(engine, clock))


@pytest.fixture
def ready(clock):
    return make_row(clock, State.READY, incarnation="id@1", probed=True, last_used=clock.now())


def test_a_lease_moves_the_version_so_that_a_stop_fails(leases, ready, clock):
    stale = row()
    assert leases.insert(ready)
    assert not Instance.objects.claim_stop(stale, owner=WORKER, now=clock.now(), idle_seconds=0, ordered={})


@pytest.mark.parametrize("state", [State.ASLEEP, State.STARTING, State.STOPPING])
def test_only_a_ready_instance_is_leased(leases, ready, state):
    Instance.objects.update(state=state)
    assert leases.insert(ready) is None
    assert not Lease.objects.exists()


def test_another_incarnation_is_not_leased(leases, ready):
    Instance.objects.update(incarnation="id@2")
    assert leases.insert(ready) is None


def test_an_instance_that_was_not_probed_is_not_leased(leases, ready):
    Instance.objects.update(probed=False)
    assert leases.insert(ready) is None


def test_the_idle_time_begins_with_the_end_of_the_lease(leases, ready, clock):
    lease = leases.insert(ready)
    clock.go(100)
    leases.give_back(lease)
    assert row().last_used == clock.now()


def test_the_idle_time_of_a_renamed_container_begins_with_the_end_of_its_lease(leases, ready, clock):
    """Else it would be stopped right after long work, because its name was adopted before that."""
    lease, began = leases.insert(ready), clock.now()
    lease.broke_off = 1
    make_row(clock, State.READY, name="renamed", last_used=began)
    Lease.objects.update(instance="renamed")  # the reconciler does that
    clock.go(3600)
    leases.end([lease])
    assert (row("renamed").last_used, row("renamed").broke_off) == (clock.now(), 1)
    assert (row().last_used, row().broke_off) == (began, 0)


def test_the_end_of_a_lease_changes_no_instance_in_another_state(leases, ready):
    lease = leases.insert(ready)
    Instance.objects.update(state=State.STOPPING, version=50)
    leases.give_back(lease)
    assert row().version == 50
    assert not Lease.objects.exists()


def test_a_lease_is_given_back_again_and_again_until_that_succeeds(leases, ready, monkeypatch):
    lease = leases.insert(ready)
    troubles = [DatabaseError("locked"), DatabaseError("locked")]
    end_work = type(Instance.objects).end_work

    def failing_twice(*args, **values):
        if troubles:
            raise troubles.pop()
        end_work(*args, **values)

    monkeypatch.setattr(type(Instance.objects), "end_work", failing_twice)
    leases.give_back(lease)
    assert not Lease.objects.exists()


def test_the_leases_of_dead_workers_end_and_no_others(engine, clock, leases, ready):
    living = uuid.uuid4()
    leases.insert(ready)
    Leases(engine, living, clock, Neighbours(engine, clock)).insert(ready)
    leases.end_those_of({WORKER})
    assert [lease.worker for lease in Lease.objects.all()] == [living]
