"""Leases: the proof that work is in flight. A leased instance is never idle."""

import logging
import uuid
from collections.abc import Collection

from django.db import DatabaseError, transaction
from django.db.models import F

from lifecycle.clock import Clock
from lifecycle.models import Instance, Lease, State

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5


def take(row: Instance, worker: uuid.UUID, clock: Clock) -> Lease | None:
    """A lease, where the instance is still ready in the incarnation of `row`; else None.

    The UPDATE moves the version, so that a stop which has read an older one claims nothing.
    """
    with transaction.atomic():
        same = Instance.objects.filter(pk=row.pk, state=State.READY, incarnation=row.incarnation, probed=True)
        if not same.update(version=F("version") + 1):
            return None
        return Lease.objects.create(instance=row, worker=worker, since=clock.now())


def give_back(lease: Lease, clock: Clock) -> None:
    """Ends the lease, and begins the idle time. Tried until it lands: it would keep its instance awake for ever."""
    while True:
        try:
            end([lease], clock)
        except DatabaseError as error:
            logger.warning("The lease of %s could not be given back, trying again: %s", lease.instance_id, error)
            clock.sleep(RETRY_SECONDS)
        else:
            return


def end_those_of(workers: Collection[uuid.UUID | None], clock: Clock) -> None:
    """Ends the leases of dead workers; their instances are idle from now on."""
    leases = [lease for lease in Lease.objects.all() if lease.worker in workers]
    if leases:
        end(leases, clock)
        names = ", ".join(sorted({lease.instance_id for lease in leases}))
        logger.warning("Ended the leases of processes that are gone, on: %s", names)


def end(leases: Collection[Lease], clock: Clock) -> None:
    """Once. Raises DatabaseError. Other states than ready belong to their owner, and have no idle clock."""
    with transaction.atomic():
        names = {lease.instance_id for lease in leases}
        Instance.objects.filter(pk__in=names, state=State.READY).update(last_used=clock.now(), version=F("version") + 1)
        Lease.objects.filter(pk__in=[lease.pk for lease in leases]).delete()
