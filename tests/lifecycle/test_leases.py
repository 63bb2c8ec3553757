"""Leases keep an instance awake, and idle time begins when the last has ended."""

import uuid

import pytest
from django.db import DatabaseError

from lifecycle.models import Instance, Lease, State
from lifecycle.transitions import leases
from tests.lifecycle.conftest import make_row, row

pytestmark = pytest.mark.django_db
WORKER = uuid.uuid4()


@pytest.fixture
def ready(clock):
    return make_row(clock, State.READY, incarnation="id@1", probed=True, last_used=clock.now())


def test_a_lease_moves_the_version_so_that_a_stop_fails(ready, clock):
    stale = row()
    assert leases.take(ready, WORKER, clock)
    assert not Instance.objects.change(stale, state=State.STOPPING)


@pytest.mark.parametrize("state", [State.ASLEEP, State.STARTING, State.STOPPING])
def test_only_the_ready_are_leased(ready, clock, state):
    Instance.objects.update(state=state)
    assert leases.take(ready, WORKER, clock) is None
    assert not Lease.objects.exists()


def test_another_incarnation_is_not_leased(ready, clock):
    Instance.objects.update(incarnation="id@2")
    assert leases.take(ready, WORKER, clock) is None


def test_what_was_not_probed_is_not_leased(ready, clock):
    Instance.objects.update(probed=False)
    assert leases.take(ready, WORKER, clock) is None


def test_the_idle_time_begins_with_the_end_of_the_lease(ready, clock):
    lease = leases.take(ready, WORKER, clock)
    clock.go(100)
    leases.give_back(lease, clock)
    assert row().last_used == clock.now()


def test_the_end_of_a_lease_leaves_others_states_alone(ready, clock):
    lease = leases.take(ready, WORKER, clock)
    Instance.objects.update(state=State.STOPPING, version=50)
    leases.give_back(lease, clock)
    assert row().version == 50
    assert not Lease.objects.exists()


def test_a_lease_is_given_back_until_that_lands(ready, clock, monkeypatch):
    lease = leases.take(ready, WORKER, clock)
    troubles = [DatabaseError("locked"), DatabaseError("locked")]
    end = leases.end

    def ending(*args):
        if troubles:
            raise troubles.pop()
        end(*args)

    monkeypatch.setattr(leases, "end", ending)
    leases.give_back(lease, clock)
    assert not Lease.objects.exists()


def test_the_leases_of_the_dead_end_and_no_others(ready, clock):
    living = uuid.uuid4()
    for worker in (WORKER, living):
        leases.take(ready, worker, clock)
    leases.end_those_of({WORKER}, clock)
    assert [lease.worker for lease in Lease.objects.all()] == [living]
