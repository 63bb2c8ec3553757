"""Stopping instances that have been idle for their timeout."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Q

from lifecycle.clock import Clock
from lifecycle.engines.base import Engine, Inspection, Outcome, Phase, are_of_two_containers
from lifecycle.engines.labels import Labels, default_of
from lifecycle.exceptions import EngineNonsense, EngineRefused, LabelError, Missing
from lifecycle.models import Instance, Lease
from lifecycle.orders import Order, Trigger
from lifecycle.state_machine import ALWAYS, IS_DISABLED, Mode, State, may_sleep
from lifecycle.transitions.claims import Claims
from lifecycle.workers.neighbours import Neighbours


class _AnotherContainer(Exception):
    """Containers were renamed: the name belongs to another container than the one that was idle."""


@dataclass(frozen=True)
class Stopping:
    """Finds idle instances and stops them."""

    engine: Engine
    claims: Claims
    clock: Clock
    neighbours: Neighbours

    def find_idle(self) -> list[Instance]:
        """Return the instances that have been without work for their idle timeout, and that no awake one needs."""
        may_be_idle = may_sleep(self.clock.now())
        rows = list(Instance.objects.filter(may_be_idle, state=State.READY, idle_timeout__isnull=False))
        # Read after the rows: a lease that comes later changes the row's version, and then the stop claims nothing.
        leased = set(Lease.objects.values_list("instance_id", flat=True))
        needed = Instance.objects.dependents()  # also read after the rows, because a dependent changes the version, too
        return [row for row in rows if row.name not in leased and row.name not in needed and self._is_idle(row)]

    def find_disabled(self) -> list[Instance]:
        """Return the disabled instances that are to be put to sleep, because their work has ended or is broken off.

        One that an awake instance needs has to wait for that, too. One that a person started after it was disabled is
        left to its idle timeout.
        """
        rows = list(Instance.objects.filter(IS_DISABLED, state=State.READY))
        used = set(Lease.objects.values_list("instance_id", flat=True)) | Instance.objects.dependents().keys()
        return [row for row in rows if self._is_to_sleep(row, is_used=row.name in used)]

    def stop_idle(self, row: Instance) -> None:
        """Stop an instance that `find_idle` returned, unless its row has changed or it is kept awake meanwhile.

        Raises EngineUnreachable if the outcome is not known. Then the claim stays, and recovery settles it.
        """
        self._stop(row, Order(Trigger.IDLE), may_sleep(self.clock.now()))

    def stop_disabled(self, row: Instance) -> None:
        """Stop an instance that `find_disabled` returned, unless its row has changed or it is enabled meanwhile.

        Raises EngineUnreachable as `stop_idle`.
        """
        decision = row.disabled or {}
        self._stop(row, Order(Trigger.DISABLED, decision.get("by", ""), decision.get("by_kind", "")), IS_DISABLED)

    def _stop(self, row: Instance, order: Order, condition: Q) -> None:
        with self.claims.working_on(row.name):
            if self.claim(row, self.idle_seconds(row), order, condition):
                self.stop_and_settle(row)

    def claim(self, row: Instance, idle_seconds: int, order: Order, condition: Q = ALWAYS) -> bool:
        """Begin to stop the instance. Return False if its row has changed. Raises Neighbour."""
        self.neighbours.look_and_check()
        return self.claims.claim_stop(row, idle_seconds, order, condition)

    def idle_seconds(self, row: Instance) -> int:
        """Return for how long the instance has been without work, if it is without work."""
        return max(0, int((self.clock.now() - row.last_used).total_seconds())) if row.last_used else 0

    def stop_and_settle(self, row: Instance, **more: Any) -> str:
        """Carry out a claimed stop, or pause if the label says so. `more` is added to the event's data.

        With work in flight, which a person breaks off, it is always a stop: a frozen agent would let its callers wait.

        Return an empty text. If the engine refuses, return why; the instance is ready again. A second stop of the same
        instance does no harm. Raises ClaimLost and EngineUnreachable.
        """
        try:
            outcome = self.stop_engine(row, may_pause=not Lease.objects.filter(instance=row).exists())
        except _AnotherContainer:
            self.claims.give_stop_up(row)
            return ""
        except EngineRefused as refusal:
            self.claims.settle_stop_failed(row, refusal.error, **more)
            return refusal.error
        unconfirmed = {"unconfirmed": True} if outcome is Outcome.UNCONFIRMED else {}
        self.claims.settle_stopped(row, **more, **unconfirmed)
        return ""

    def stop_engine(self, row: Instance, *, may_pause: bool = False) -> Outcome:
        """Make the engine stop a claimed instance, or pause it if it `may_pause` and its label says so.

        Return when it does not run, or does not exist. Raises ClaimLost, EngineUnreachable, and EngineRefused if it
        runs on.
        """
        mode = Mode.STOP
        try:
            seen = self._inspect(row.name)
            if seen and row.state == State.STOPPING and are_of_two_containers(seen.incarnation, row.incarnation):
                raise _AnotherContainer
            labels = _labels_of(seen)
            if may_pause and labels:
                mode = Mode(labels.sleep)
                self.claims.set_mode(row, mode)
            self.claims.check(row)  # after the inspection, which may wait for seconds while another worker takes over
            if mode == Mode.PAUSE:
                return self.engine.pause(row.name)
            return self.engine.stop(row.name, _grace_seconds(labels))
        except Missing:
            return Outcome.ALREADY_SO
        except (EngineRefused, EngineNonsense) as error:
            if self._runs(row.name, mode):
                raise EngineRefused(error.error) from error
            return Outcome.DONE

    def _runs(self, name: str, mode: Mode) -> bool:
        """Return whether an instance runs on whose stop or pause was refused.

        Raises EngineUnreachable if that is not known.
        """
        try:
            seen = self.engine.inspect(name)
        except Missing:
            return False
        except EngineRefused:
            return True
        is_paused = mode == Mode.PAUSE and seen.phase is Phase.PAUSED
        return not seen.ended and not is_paused

    def _inspect(self, name: str) -> Inspection | None:
        """Return an inspection, or None if the engine's answer cannot be read. Raises Missing."""
        try:
            return self.engine.inspect(name)
        except (EngineRefused, EngineNonsense):
            return None

    def _is_idle(self, row: Instance) -> bool:
        now = self.clock.now()
        if row.last_used is None or row.last_used > now:  # the wall clock was set back
            Instance.objects.restart_idle_clock(row, now=now)
            return False
        is_idle = row.idle_timeout is not None and now - row.last_used >= row.idle_timeout
        return is_idle and (row.next_stop_try is None or now >= row.next_stop_try)

    def _is_to_sleep(self, row: Instance, *, is_used: bool) -> bool:
        decision: dict[str, Any] = row.disabled or {}
        is_due = row.next_stop_try is None or self.clock.now() >= row.next_stop_try
        return is_due and not row.is_started_while_disabled and (not is_used or decision["force"])


def _labels_of(seen: Inspection | None) -> Labels | None:
    """Return the labels, or None if they cannot be read."""
    return None if seen is None or isinstance(seen.labels, LabelError) else seen.labels


def _grace_seconds(labels: Labels | None) -> float:
    """Return the label `stop-timeout`, or its default if the labels cannot be read."""
    timeout: timedelta = labels.stop_timeout if labels else default_of("stop-timeout")
    return timeout.total_seconds()
