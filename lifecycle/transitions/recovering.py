"""Recovering: finding out what became of a start or a stop whose outcome no worker waited for, and settling it once.

This inspects instances, and never lists them: while a start hangs, a list says "created", but an inspection waits for
the truth (seen on Docker Engine 20.10).
"""

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import DatabaseError, connections
from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_result, wait_fixed

from lifecycle.clock import Clock, milliseconds
from lifecycle.engines.base import Engine, Inspection, Phase
from lifecycle.exceptions import Cause, EngineError, EngineRefused, EngineUnreachable, Missing, StartFailed
from lifecycle.models import Instance, Lease
from lifecycle.state_machine import Mode, State
from lifecycle.transitions.claims import Claims, Started
from lifecycle.transitions.leases import Leases
from lifecycle.transitions.starts.readiness import Readiness
from lifecycle.transitions.stopping import Stopping
from lifecycle.workers.heartbeats import LivenessWatch, ThisWorker

logger = logging.getLogger(__name__)

#: If nothing has started after this long, the request never reached the engine.
SECOND_LOOK_SECONDS = 2
#: The same if the engine was asked to run it, and seems not to have begun yet.
MAY_BEGIN_SECONDS = 10
#: How often, and for how long, an engine that does not answer is asked again.
ASK_AGAIN_SECONDS = 0.5
GIVE_UP_SECONDS = 30
#: How often it is tried to settle a claim that an unforeseen error left behind.
RECOVER_AGAIN_SECONDS = 5


@dataclass(frozen=True)
class AbandonedClaim:
    """A claim that no worker is at work on."""

    row: Instance
    #: Whether its owner is dead. Else this worker owns it, and an error left it behind.
    is_owner_dead: bool


@dataclass(frozen=True)
class Recovering:
    """Settles abandoned claims, and ends the leases of dead workers."""

    engine: Engine
    worker: ThisWorker
    watch: LivenessWatch
    claims: Claims
    leases: Leases
    readiness: Readiness
    stopping: Stopping
    clock: Clock
    #: By instance: the latest run whose claim was a dead worker's. It is told as recovered at a second try, too.
    _inherited_runs: dict[str, int] = field(default_factory=dict)

    def find_abandoned(self, rows: Iterable[Instance] | None = None) -> list[AbandonedClaim]:
        """Return the abandoned claims among `rows`, by default among all."""
        claimed = Instance.objects.filter(state__in=[State.STARTING, State.STOPPING])
        claims = list(claimed if rows is None else rows)
        dead = self.watch.find_dead([row.owner for row in claims])
        return [
            AbandonedClaim(row, row.owner in dead)
            for row in claims
            if row.owner in dead or self.claims.is_abandoned(row)
        ]

    def recover(self, claim: AbandonedClaim) -> None:
        """Take the claim over and settle it, unless another worker does.

        Raises EngineUnreachable if it cannot be settled yet. Then it is still a claim.
        """
        row = claim.row
        with self.claims.working_on(row.name):
            if not self.claims.take_over(row):
                return
            if claim.is_owner_dead:
                self._inherited_runs[row.name] = row.run
            more: dict[str, Any] = {"recovered": True} if self._inherited_runs.get(row.name) == row.run else {}
            if row.state == State.STOPPING:
                self.stopping.stop_and_settle(row, **more)
            else:
                self._settle_start(row, **more)

    def recover_own(self, name: str) -> bool:
        """Settle a claim of this worker that an error left behind. Return False if that is not possible yet."""
        try:
            own = Instance.objects.filter(pk=name, owner=self.worker.id)
            for claim in self.find_abandoned(own):
                self.recover(claim)
            return not any(self.claims.is_abandoned(row) for row in own.all())
        except (DatabaseError, EngineError) as error:
            logger.warning("%s: what an error left behind cannot be settled yet: %s", name, error)
            connections.close_all()
            return False

    def recover_own_until_settled(self, name: str) -> None:
        """Settle what an error in this worker left behind, however long that takes; then close the connections.

        This worker is alive, so no other one would do it.
        """
        retrying = Retrying(
            retry=retry_if_result(lambda is_settled: not is_settled),
            wait=wait_fixed(RECOVER_AGAIN_SECONDS),
            sleep=self.clock.sleep,
        )
        try:
            retrying(self.recover_own, name)
        finally:
            connections.close_all()

    def end_leases_of_the_dead(self) -> None:
        """End the leases of dead workers, and forget the workers that cannot come back."""
        dead = self.watch.find_dead(Lease.objects.values_list("worker", flat=True))
        if not self.worker.heartbeat_overdue():
            self.leases.end_those_of(dead)
        self.watch.forget()

    def settle_unknown_start(self, row: Instance, error: EngineUnreachable, began: float) -> None:
        """Settle a start of this worker whose call timed out or lost its connection.

        `began` is the monotonic time of the claim. Raises StartFailed if it failed, and EngineUnreachable if the
        engine does not answer within GIVE_UP_SECONDS. Then it may run, the claim stays, and a sweep settles it.
        """
        if not error.was_asked:
            failure = StartFailed(row.name, Cause.ENGINE_UNREACHABLE, str(error))
            self.claims.settle_failed(row, failure)
            raise failure from error
        lost = self.clock.monotonic()

        def give_up(state: RetryCallState) -> bool:
            return self.clock.monotonic() - lost >= GIVE_UP_SECONDS

        Retrying(
            retry=retry_if_exception_type(EngineUnreachable),
            wait=wait_fixed(ASK_AGAIN_SECONDS),
            stop=give_up,
            sleep=self.clock.sleep,
            reraise=True,
        )(self._settle_start, row, began, str(error))

    def _settle_start(self, row: Instance, began: float | None = None, lost: str = "", **more: Any) -> None:
        """Find out what became of a claimed start, and settle it. `began`: this worker made the claim, at that time.

        Then `lost` says why the answer to its call is not known, and StartFailed is raised, because a dispatch waits
        for the outcome.
        """
        try:
            started = Started(self._find_ready(row, lost), self._latency_ms(row, began), {})
        except StartFailed as failure:
            self.claims.settle_failed(row, failure, **more)
            if began is not None:
                raise
        else:
            self.claims.settle_started(row, started, **more)

    def _find_ready(self, row: Instance, lost: str) -> Inspection:
        """Return the inspection with which the claimed start was ready. Raises StartFailed.

        The start was ours only if the incarnation has changed since the claim, or it was resumed. `lost` says why this
        worker does not know the answer to its call. Empty: another worker made the call, and has died.
        """
        interrupted = "the engine" if lost else "Dormouse"
        try:
            seen, waited_seconds = self.engine.inspect(row.name), 0
            while not _has_run_since(row, seen) and waited_seconds < _patience_seconds(seen):
                self.clock.sleep(SECOND_LOOK_SECONDS)
                seen, waited_seconds = self.engine.inspect(row.name), waited_seconds + SECOND_LOOK_SECONDS
        except Missing:
            why = f"{interrupted} was interrupted, and the engine does not have it any more"
            raise StartFailed(row.name, Cause.INTERRUPTED, why) from None
        except EngineRefused as refusal:
            why = f"{interrupted} was interrupted, and what became of it is not known: {refusal.error}"
            raise StartFailed(row.name, Cause.INTERRUPTED, why) from refusal
        if not _has_run_since(row, seen):
            if seen.may_begin:
                with suppress(EngineRefused):  # nothing was seen to run
                    self.stopping.stop_engine(row)
            why = f"it has not started: {lost}" if lost else "Dormouse was interrupted before the start"
            raise StartFailed(row.name, Cause.INTERRUPTED, f"{why}; the next dispatch tries again")
        if seen.ended:
            exit_failure = self.readiness.exit_failure(seen)
            why = f"{interrupted} was interrupted, and it {exit_failure.error}"
            raise replace(exit_failure, cause=Cause.INTERRUPTED, error=why)
        return self.readiness.wait_until_ready_or_stop(row)

    def _latency_ms(self, row: Instance, began: float | None) -> int:
        """Return the time since the claim: by the monotonic clock if this worker made it, else by wall time."""
        if began is not None:
            return milliseconds(self.clock.monotonic() - began)
        return max(0, milliseconds((self.clock.now() - row.since).total_seconds()))


def _patience_seconds(seen: Inspection) -> int:
    """Return how long it takes to be sure that nothing has started. A new leader of a swarm may be about to begin."""
    return MAY_BEGIN_SECONDS if seen.may_begin else SECOND_LOOK_SECONDS


def _has_run_since(row: Instance, seen: Inspection) -> bool:
    """Return whether the engine has started or resumed something since the claim.

    A container that was made anew has not run.
    """
    if row.mode == Mode.PAUSE and seen.incarnation == row.incarnation:
        return seen.phase is not Phase.PAUSED
    return seen.incarnation not in ("", row.incarnation)
