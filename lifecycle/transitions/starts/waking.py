"""Waking: what a dispatch needs, in whichever state the instance is."""

from dataclasses import dataclass

from lifecycle.clock import Clock
from lifecycle.engines import HOW_TO_TAKE_PART
from lifecycle.engines.base import Engine, Inspection, Phase
from lifecycle.exceptions import (
    Cause,
    EngineRefused,
    EngineUnreachable,
    LabelError,
    Missing,
    StartFailed,
    UnknownInstance,
)
from lifecycle.models import Instance
from lifecycle.orders import DISPATCH, Order, Trigger
from lifecycle.state_machine import State
from lifecycle.transitions.adopting import Adopting
from lifecycle.transitions.claims import Claims
from lifecycle.transitions.leases import reached_as_probed
from lifecycle.transitions.recovering import Recovering
from lifecycle.transitions.starts.needs import circle_error, find_circle, wake_needed
from lifecycle.transitions.starts.readiness import missing_failure, rejected_failure
from lifecycle.transitions.starts.starting import Starting
from lifecycle.workers.neighbours import Neighbours

#: How often a row that another worker has claimed is read.
POLL_SECONDS = 0.05
#: After so many short lives in a row, a dispatch fails. Else one dispatch would start it again and again for ever.
MAX_SHORT_LIVES = 3
#: The phases that the engine itself brings to an end.
IN_BETWEEN = (Phase.RESTARTING, Phase.REMOVING)


@dataclass(frozen=True)
class Waking:
    """Wakes one instance at a time. Its methods block; they are not for coroutines."""

    engine: Engine
    claims: Claims
    starting: Starting
    adopting: Adopting
    recovering: Recovering
    clock: Clock
    neighbours: Neighbours

    def wake(self, name: str, order: Order = DISPATCH, row: Instance | None = None) -> Inspection | None:
        """Return when the instance was ready. It may have changed since, so the caller takes a lease or wakes again.

        `row` is its row, if it was read a moment ago.

        If this call started the instance, return the inspection with which it was ready. A start is told with `order`.
        If another worker is starting the instance, wait for that run, and raise its error if it fails.

        Raises Neighbour, UnknownInstance, Disabled, LabelError, StartFailed and EngineUnreachable.
        """
        self.neighbours.check()
        began = self.clock.monotonic()
        while True:
            row, latest = None, row or self.find_or_register(name)
            latest.check_enabled()
            if latest.state == State.STARTING:
                self._join(latest)
                return None
            if latest.state == State.STOPPING:
                self._wait_while(latest, State.STOPPING)
                continue
            seen = self._inspect(latest, order)
            if seen and seen.phase in IN_BETWEEN:
                self._check_patience(seen, began)
            elif seen and (ready := self._make_ready(latest, seen, order)):
                return ready if isinstance(ready, Inspection) else None
            # The engine works on it, another worker changed the row, or this worker's heartbeat is overdue.
            self.claims.wait_for_heartbeat()
            self.clock.sleep(POLL_SECONDS)

    def wait_until_settled(self, name: str) -> Instance:
        """Return the instance's row when no worker starts or stops it.

        Raises Neighbour, UnknownInstance and EngineUnreachable.
        """
        self.neighbours.check()
        row = self.find_or_register(name)
        while row.state in (State.STARTING, State.STOPPING):
            row = self._wait_while(row, State(row.state))
        return row

    def find_or_register(self, name: str) -> Instance:
        """Return the instance's row, or a new one if the engine has such an instance. Raises UnknownInstance."""
        row = Instance.objects.filter(pk=name).first()
        if row:
            return row
        try:
            seen = self.engine.inspect(name)
        except Missing:
            raise UnknownInstance(name, HOW_TO_TAKE_PART.get(self.engine.name, "")) from None
        return Instance.objects.register(name, now=self.clock.now(), idle_timeout=seen.settings().idle_timeout)

    def _inspect(self, row: Instance, order: Order) -> Inspection | None:
        """Return what the engine says of the instance, or None if another worker changed its row meanwhile.

        Raises StartFailed, with its event, if there is nothing to start or no engine to ask. Raises EngineUnreachable
        without an event if the instance may be running. Raises Neighbour and LabelError before anything is started.
        """
        try:
            seen = self.engine.inspect(row.name)
        except EngineUnreachable as error:
            if row.state == State.READY:
                raise
            self.starting.fail(row, StartFailed(row.name, Cause.ENGINE_UNREACHABLE, str(error)), order)
            return None
        except EngineRefused as refusal:
            if row.state == State.READY:
                raise
            self.starting.fail(row, rejected_failure(row.name, refusal), order)
            return None
        except Missing as error:
            self.starting.fail(row, missing_failure(error), order)
            return None
        self.neighbours.look_and_check()
        if seen.settings().port is None and order.trigger is Trigger.DISPATCH:
            raise LabelError(row.name, f"{self.engine.key_prefix}port", "", "is not set: nothing can be sent to it")
        return seen

    def _check_patience(self, seen: Inspection, began: float) -> None:
        """Return if the engine may still finish what it does to the instance by itself.

        Raises StartFailed, without an event, if that has taken longer than the start-timeout since `began`.
        """
        timeout_seconds = seen.settings().start_timeout.total_seconds()
        if self.clock.monotonic() - began < timeout_seconds:
            return
        if seen.phase is Phase.RESTARTING:
            error = f"ended, and the engine has not brought it up again within {timeout_seconds:g} s"
            raise StartFailed(seen.name, Cause.EXITED, error, seen.exit_code)
        error = f"the engine is removing it, and has not finished within {timeout_seconds:g} s"
        raise StartFailed(seen.name, Cause.START_REJECTED, error)

    def _make_ready(self, row: Instance, seen: Inspection, order: Order) -> Inspection | bool | None:
        """Start the instance, or use it if it runs, with all that it needs.

        Return the inspection with which a started one was ready, True for one that runs, or a false value if the row
        has changed.
        """
        if seen.needs:
            circle = find_circle(row.name, self._needs_of)
            if circle:
                raise circle_error(circle, self.engine.key_prefix)

        def wake_all_needed() -> None:
            if seen.needs:
                wake_needed(row.name, seen.needs, order, self.wake)

        if seen.phase is Phase.EXITED and row.count_short_lives(self.clock.now()) >= MAX_SHORT_LIVES:
            self.starting.fail_after_short_lives(row, seen, order)
            return False
        if not seen.running:
            return self.starting.start(row, seen, order, wake_all_needed)
        wake_all_needed()
        return self._is_usable(row, seen)

    def _needs_of(self, name: str) -> list[str]:
        """Return what an instance needs, as its labels say now. One that the engine does not have needs nothing."""
        try:
            return self.engine.inspect(name).needs
        except Missing:
            return []

    def _is_usable(self, row: Instance, seen: Inspection) -> bool:
        """Return whether a running instance is ready. One that others started is adopted, and probed first."""
        is_known = row.state == State.READY and row.probed and row.incarnation == seen.incarnation
        return (is_known and reached_as_probed(row, seen) is not None) or self.adopting.adopt_and_probe(row, seen)

    def _join(self, row: Instance) -> None:
        """Wait for a run of another worker, or for its recovery. Raises StartFailed if that run failed."""
        failure = self._wait_while(row, State.STARTING).failure or {}
        if failure.get("run") == row.run:
            raise StartFailed.from_data(row.name, failure)

    def _wait_while(self, row: Instance, state: State) -> Instance:
        """Wait until the row leaves `state` or begins another run, and return it. Recover it if its owner has died.

        Raises EngineUnreachable if it cannot be recovered: a dispatch does not wait for an engine.
        """
        while True:
            latest = Instance.objects.get(pk=row.name)
            if latest.state != state or latest.run != row.run:
                return latest
            for claim in self.recovering.find_abandoned([latest]):
                self.recovering.recover(claim)
            self.clock.sleep(POLL_SECONDS)
