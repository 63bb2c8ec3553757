"""Stopping instances that have been idle for their timeout."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lifecycle.clock import Clock
from lifecycle.engines.base import Engine
from lifecycle.engines.labels import default_of
from lifecycle.exceptions import EngineNonsense, EngineRefused, LabelError, Missing
from lifecycle.models import Instance, Lease, State
from lifecycle.transitions.claims import Claims
from lifecycle.transitions.orders import Order, Trigger


@dataclass(frozen=True)
class Stopping:
    """Finds idle instances and stops them."""

    engine: Engine
    claims: Claims
    clock: Clock

    def find_idle(self) -> list[Instance]:
        """Return the instances that have been without work for their idle timeout."""
        rows = list(Instance.objects.filter(state=State.READY, idle_timeout__isnull=False))
        # Read after the rows: a lease that comes later changes the row's version, and then the stop claims nothing.
        leased = set(Lease.objects.values_list("instance_id", flat=True))
        return [row for row in rows if row.name not in leased and self._is_idle(row)]

    def stop_idle(self, row: Instance) -> None:
        """Stop an instance that `find_idle` returned, unless its row has changed meanwhile.

        Raises EngineUnreachable if the outcome is not known. Then the claim stays, and recovery settles it.
        """
        assert row.last_used is not None, "find_idle returns no row without an idle clock"
        idle = self.clock.now() - row.last_used
        with self.claims.working_on(row.name):
            if self.claims.claim_stop(row, max(0, int(idle.total_seconds())), Order(Trigger.IDLE)):
                self.stop_and_settle(row)

    def stop_and_settle(self, row: Instance, **more: Any) -> None:
        """Carry out a claimed stop. `more` is added to the event's data. If the engine refuses, it is ready again.

        A second stop of the same instance does no harm. Raises ClaimLost and EngineUnreachable.
        """
        try:
            self.stop_engine(row)
        except EngineRefused as refusal:
            self.claims.settle_stop_failed(row, refusal.error, **more)
        else:
            self.claims.settle_stopped(row, **more)

    def stop_engine(self, row: Instance) -> None:
        """Make the engine stop a claimed instance. Return when it does not run, or does not exist.

        Raises ClaimLost, EngineUnreachable, and EngineRefused if it runs on.
        """
        try:
            grace_seconds = self._grace_seconds(row.name)
            self.claims.check(row)  # after the inspection, which may wait for seconds while another worker takes over
            self.engine.stop(row.name, grace_seconds)
        except Missing:
            pass
        except (EngineRefused, EngineNonsense) as error:
            if self._runs(row.name):
                raise EngineRefused(error.error) from error

    def _runs(self, name: str) -> bool:
        """Return whether an instance runs on whose stop was refused. Raises EngineUnreachable if that is not known."""
        try:
            return not self.engine.inspect(name).ended
        except Missing:
            return False
        except EngineRefused:
            return True

    def _grace_seconds(self, name: str) -> float:
        """Return the label `stop-timeout`, or its default if the engine's answer or the label cannot be read."""
        default: timedelta = default_of("stop-timeout")
        try:
            timeout = self.engine.inspect(name).settings().stop_timeout
        except (EngineRefused, EngineNonsense, LabelError):
            timeout = default
        return timeout.total_seconds()

    def _is_idle(self, row: Instance) -> bool:
        now = self.clock.now()
        if row.last_used is None or row.last_used > now:  # the wall clock was set back
            Instance.objects.restart_idle_clock(row, now=now)
            return False
        is_idle = row.idle_timeout is not None and now - row.last_used >= row.idle_timeout
        return is_idle and (row.next_stop_try is None or now >= row.next_stop_try)
