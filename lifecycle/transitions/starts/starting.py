"""Starting an instance that is asleep: claim, start, probe, settle."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from lifecycle import tracing
from lifecycle.clock import Clock, milliseconds
from lifecycle.engines.base import Engine, Inspection, Outcome, Phase
from lifecycle.engines.labels import PROBED
from lifecycle.exceptions import EngineBusy, EngineRefused, EngineUnreachable, Missing, StartFailed
from lifecycle.models import Instance
from lifecycle.orders import Order
from lifecycle.state_machine import SHORT_LIFE, Mode
from lifecycle.transitions.claims import Claims, Started
from lifecycle.transitions.ending import Ending
from lifecycle.transitions.recovering import Recovering
from lifecycle.transitions.starts.readiness import Readiness, missing_failure, rejected_failure

#: How long, and how often, a start is tried that the engine refuses for now.
LOOK_AGAIN_SECONDS, LOOK_AGAIN_PAUSE_SECONDS = 10, 0.1


@dataclass(frozen=True)
class Starting:
    """Makes the starts of this worker. Each ends in exactly one event."""

    engine: Engine
    claims: Claims
    readiness: Readiness
    recovering: Recovering
    ending: Ending
    clock: Clock

    def start(
        self, row: Instance, before: Inspection, order: Order, wake_needed: Callable[[], None]
    ) -> Inspection | None:
        """Start the instance, and return the inspection with which it was ready. None: another worker was faster.

        After the claim, `wake_needed` wakes what it needs, or raises StartFailed.

        Raises StartFailed if it does not get ready, and EngineUnreachable if the outcome is not known yet.
        """
        began = self.clock.monotonic()
        end = self.ending.find(row, before)
        resumed = _once_resumed(row, before)
        with self.claims.working_on(row.name):
            with tracing.step("claim", row.name):
                is_claimed = self.claims.claim_start(row, before, order, end)
            if not is_claimed:
                return None
            try:
                wake_needed()
                needed = self.clock.monotonic()
                with tracing.step("start", row.name):
                    self._start_engine(row)
            except (EngineRefused, EngineBusy) as refusal:
                self._settle_failed(row, rejected_failure(row.name, refusal), refusal)
            except Missing as error:
                self._settle_failed(row, missing_failure(error), error)
            except StartFailed as failure:
                self._settle_failed(row, failure, failure.__cause__)
            except EngineUnreachable as error:
                self.recovering.settle_unknown_start(row, error, began)
            else:
                return self._probe_and_settle(row, before, resumed, began, needed)
        return None  # the claim was lost

    def fail(self, row: Instance, failure: StartFailed, order: Order) -> None:
        """Make a run that fails at once, because there is nothing to start or no engine to ask. Raises `failure`.

        Return only if another worker changed the row meanwhile; then nothing was done.
        """
        end = self.ending.find(row, None)
        with self.claims.working_on(row.name):
            if self.claims.claim_start(row, None, order, end):
                self._settle_failed(row, failure)

    def fail_after_short_lives(self, row: Instance, seen: Inspection, order: Order) -> None:
        """Make a run that fails, because its latest ones ended before any work. Raises StartFailed, as `fail`."""
        times, seconds = row.count_short_lives(self.clock.now()), SHORT_LIFE.total_seconds()
        error = (
            f"ended {times} times in a row within {seconds:g} s of being ready, before any work came; see its output"
        )
        self.fail(row, replace(self.readiness.exit_failure(seen), error=error), order)

    def _start_engine(self, row: Instance) -> None:
        """Resume or start the instance.

        If the engine is removing it, look again: another one may get its name in a moment.
        """
        if row.mode == Mode.PAUSE and self._resume(row):
            return
        give_up = None
        while True:
            self.claims.check(row)
            try:
                self.engine.start(row.name)
                return
            except (EngineBusy, Missing) as error:
                if isinstance(error, EngineBusy) and give_up is None:
                    give_up = self.clock.monotonic() + LOOK_AGAIN_SECONDS
                if give_up is None or self.clock.monotonic() >= give_up:
                    raise
            self.clock.sleep(LOOK_AGAIN_PAUSE_SECONDS)

    def _resume(self, row: Instance) -> bool:
        """Resume the instance. If it was not paused any more, make the claim one of a start, and return False.

        An engine that restarts ends those that are paused.
        """
        self.claims.check(row)
        try:
            if self.engine.resume(row.name) is Outcome.DONE:
                return True
            seen = self.engine.inspect(row.name)
        except EngineRefused:
            seen = self.engine.inspect(row.name)
            if seen.phase is Phase.PAUSED:
                raise
        if seen.running and seen.incarnation == row.incarnation:
            return True
        self.claims.set_mode(row, Mode.STOP)
        return False

    def _probe_and_settle(
        self, row: Instance, before: Inspection, resumed: Inspection | None, began: float, needed: float
    ) -> Inspection | None:
        """Settle the start as soon as the instance is ready, and return the inspection with which it was.

        At the monotonic time `needed` it had what it needs. `resumed` is what it should be after a resume.
        """
        running = self.clock.monotonic()
        try:
            with tracing.step("probe", row.name):
                seen = self.readiness.wait_until_ready_or_stop(row, before.output_mark, resumed)
        except StartFailed as failure:
            self._settle_failed(row, failure, failure.__cause__)
        except EngineUnreachable as error:
            asked = EngineUnreachable(error.error, was_asked=True)  # the start itself was made
            self.recovering.settle_unknown_start(row, asked, began)
        else:
            ready = self.clock.monotonic()
            # The parts add up to the latency, so the commit of the claim belongs to the first one.
            parts_ms = {"needs_ms": milliseconds(needed - began)} if row.needs else {}
            starting = needed if row.needs else began
            parts_ms |= {"start_ms": milliseconds(running - starting), "ready_ms": milliseconds(ready - running)}
            self.claims.settle_started(row, Started(seen, milliseconds(ready - began), parts_ms))
            return seen
        return None

    def _settle_failed(self, row: Instance, failure: StartFailed, cause: BaseException | None = None) -> None:
        self.claims.settle_failed(row, failure)
        raise failure from cause


def _once_resumed(row: Instance, before: Inspection) -> Inspection | None:
    """Return what a paused instance should be after a resume: the same, at the same address. None: that is not known.

    A probe shows whether it is so, and that is faster than an inspection.
    """
    is_known = before.is_resumable and row.incarnation == before.incarnation
    if not is_known or row.address is None or before.settings().ready not in PROBED:
        return None
    return replace(before, phase=Phase.RUNNING, addresses=(tuple(row.address),))
