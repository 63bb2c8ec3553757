"""Leases: the proof that work is in flight. An instance with a lease is never idle."""

import logging
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

from django.db import DatabaseError, transaction
from django.db.models import Exists, OuterRef, Q
from tenacity import Retrying, retry_if_exception_type, wait_fixed

from lifecycle.clock import Clock
from lifecycle.engines.base import Engine, Inspection
from lifecycle.exceptions import Missing
from lifecycle.models import Instance, Lease
from lifecycle.orders import DISPATCH, Order
from lifecycle.state_machine import IS_ENABLED, State
from lifecycle.transitions.retries import log_failed_try
from lifecycle.workers.neighbours import Neighbours

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class LeasedInstance:
    """A lease of a ready instance, and the inspection made right before it."""

    lease: Lease
    seen: Inspection


@dataclass(frozen=True)
class Leases:
    """Takes leases for one worker, and ends them."""

    engine: Engine
    worker_id: uuid.UUID
    clock: Clock
    neighbours: Neighbours
    #: The instances whose rows told of failed work when they were last read here.
    with_failed_work: set[str] = field(default_factory=set)

    def look(self, name: str) -> tuple[Instance, Inspection] | None:
        """Return the row of a ready instance and an inspection, with the address that answered the probe.

        Return None if the instance must be woken first. Raises Neighbour, Disabled, LabelError and EngineUnreachable.
        """
        return self.look_at(Instance.objects.filter(pk=name).first(), self.engine.inspect)

    def look_at(self, row: Instance | None, inspect: Callable[[str], Inspection]) -> tuple[Instance, Inspection] | None:
        """Return the same as `look` for a row that was just read. `inspect` returns the inspection.

        Raises the same errors as `look`.
        """
        self.neighbours.check()
        if row:
            row.check_enabled()
            (self.with_failed_work.add if row.work_failure else self.with_failed_work.discard)(row.name)
        if row is None or row.state != State.READY or not row.probed:
            return None
        if row.needs and not Instance.objects.are_ready(row.needs):
            return None
        try:
            seen = inspect(row.name)
        except Missing:
            return None
        seen.settings()
        if not seen.running or seen.incarnation != row.incarnation:
            return None
        reached = reached_as_probed(row, seen)
        return (row, reached) if reached else None

    def take(self, name: str, order: Order = DISPATCH) -> LeasedInstance | None:
        """Return a lease of one piece of work, or None if the instance must be woken first.

        Raises Neighbour, Disabled, LabelError and EngineUnreachable.
        """
        found = self.look(name)
        if found is None:
            return None
        row, seen = found
        lease = self.insert(row, order)
        return LeasedInstance(lease, seen) if lease else None

    def give_back(self, lease: Lease) -> None:
        """End the lease, and retry until that succeeds: a lease that is left would keep its instance awake for ever."""
        message = "The lease of %s could not be given back, trying again: %s"
        Retrying(
            retry=retry_if_exception_type(DatabaseError),
            wait=wait_fixed(RETRY_SECONDS),
            sleep=self.clock.sleep,
            before_sleep=log_failed_try(logger, message, lease.instance_id),
        )(self.end, [lease])

    def end(self, leases: Collection[Lease], ended: datetime | None = None) -> None:
        """End the leases at the first try. The idle time of their instances begins. Raises DatabaseError.

        `ended` is when their last work ended; None: now.
        """
        now = self.clock.now()
        with transaction.atomic():
            rows = Lease.objects.filter(pk__in=[lease.pk for lease in leases])
            names = dict(rows.values_list("pk", "instance"))  # a lease of a container that was renamed has moved
            for lease in leases:
                self._note_broken(names.get(lease.pk, lease.instance_id), lease.broke_off, now)
            Instance.objects.end_work({names.get(lease.pk, lease.instance_id) for lease in leases}, now=ended or now)
            rows.delete()

    def update(self, lease: Lease) -> bool:
        """Write what work a lease stands for. Return False if other workers have ended it. Raises DatabaseError."""
        with transaction.atomic():
            if lease.broke_off:
                name = Lease.objects.filter(pk=lease.pk).values_list("instance", flat=True).first()
                self._note_broken(name or lease.instance_id, lease.broke_off, self.clock.now())
            values = {"works": lease.works, "since": lease.since}
            values |= {"ordered": lease.ordered, "purposes": lease.purposes}
            return bool(Lease.objects.filter(pk=lease.pk).update(**values))

    def end_those_of(self, workers: Collection[uuid.UUID | None]) -> None:
        """End the leases of dead workers. Their instances are idle from now on."""
        leases = [lease for lease in Lease.objects.all() if lease.worker in workers]
        if leases:
            self.end(leases)
            names = ", ".join(sorted({lease.instance_id for lease in leases}))
            logger.warning("Ended the leases of processes that have died, on: %s", names)

    def insert(self, row: Instance, order: Order = DISPATCH) -> Lease | None:
        """Insert a lease of one piece of work, if the instance is still ready in the incarnation of `row`.

        Return None if it is not.
        """
        caller = order.caller()
        purposes = [caller["for"]] if "for" in caller else []
        lease = Lease(instance=row, worker=self.worker_id, since=self.clock.now(), ordered=caller, purposes=purposes)
        return lease if self.insert_as(lease, row.incarnation) else None

    def insert_as(self, lease: Lease, incarnation: str, condition: Q = IS_ENABLED) -> bool:
        """Insert the lease, in the place of its row if it has one, if the instance is ready in that incarnation.

        Return False, and insert nothing, if it is not, or if `condition` does not hold. A lease that is inserted has a
        new primary key.
        """
        before = lease.pk
        try:
            with transaction.atomic():
                if not Instance.objects.mark_used(Instance(name=lease.instance_id, incarnation=incarnation), condition):
                    return False
                if before is not None:
                    Lease.objects.filter(pk=before).delete()
                lease.pk, lease.incarnation = None, incarnation
                lease.save(force_insert=True)
        except BaseException:
            lease.pk = before
            raise
        return True

    def _note_broken(self, name: str, count: int, now: datetime) -> None:
        if count:
            Instance.objects.note_broken_work(name, count, now=now)


def read_with_lease(name: str, lease_id: int | None) -> tuple[Instance | None, bool]:
    """Return an instance's row, and whether it has the lease with this id. Both are read at one moment."""
    if lease_id is None:
        return Instance.objects.filter(pk=name).first(), False
    is_leased = Exists(Lease.objects.filter(pk=lease_id, instance=OuterRef("pk")))
    row = Instance.objects.filter(pk=name).annotate(is_leased=is_leased).first()
    return row, getattr(row, "is_leased", False)


def reached_as_probed(row: Instance, seen: Inspection) -> Inspection | None:
    """Return the inspection with the address that answered the probe. None: it is not reached there any more."""
    return seen.at(tuple(row.address) if row.address else None)
