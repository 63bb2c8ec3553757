"""Adopting an instance that runs although Dormouse did not start it. No event reports that."""

from dataclasses import dataclass

from django.db import transaction

from lifecycle.clock import Clock
from lifecycle.engines.base import Inspection
from lifecycle.exceptions import Cause, Missing, StartFailed
from lifecycle.models import Instance
from lifecycle.state_machine import State
from lifecycle.transitions.ending import Ending
from lifecycle.transitions.starts.readiness import Readiness


@dataclass(frozen=True)
class Adopting:
    """Notes that an instance runs, and probes it before the first dispatch."""

    readiness: Readiness
    ending: Ending
    clock: Clock

    def adopt(self, row: Instance, seen: Inspection) -> bool:
        """Note that others started the instance; its idle clock begins now. Return False if the row has changed."""
        if row.state == State.READY and row.incarnation == seen.incarnation:
            return True
        return Instance.objects.adopt(row, now=self.clock.now(), incarnation=seen.incarnation, needs=seen.needs)

    def adopt_and_probe(self, row: Instance, seen: Inspection) -> bool:
        """Adopt the instance, and wait until it is ready. Return False if it has changed meanwhile.

        Its idle clock begins with the probe, because work waits for it. If it is not ready in time, it is left running
        and StartFailed is raised. If it was stopped meanwhile, the caller wakes it.
        """
        now = self.clock.now()
        if not self._adopt_and_note_end(row, seen) or not Instance.objects.restart_idle_clock(row, now=now):
            return False
        try:
            ready = self.readiness.wait_until_ready(row.name)
        except Missing:
            return False
        except StartFailed as failure:
            if failure.cause != Cause.NOT_READY or not self._is_still_ready(row, row.incarnation):
                return False
            raise
        is_ready = self._is_still_ready(row, ready.incarnation)
        return is_ready and Instance.objects.mark_probed(row, address=ready.address)

    def _adopt_and_note_end(self, row: Instance, seen: Inspection) -> bool:
        """Adopt the instance, and note that the incarnation before it has ended if the row was ready with that."""
        end = self.ending.find(row, seen)
        with transaction.atomic():
            is_adopted = self.adopt(row, seen)
            if is_adopted and end:
                end.leave_note(self.clock.now())
            return is_adopted

    def _is_still_ready(self, row: Instance, incarnation: str) -> bool:
        """Read the row again, and return whether it is ready and runs `incarnation`."""
        row.refresh_from_db()
        return row.state == State.READY and row.incarnation == incarnation
