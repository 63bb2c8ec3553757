"""What became of a start or a stop that nobody waited for: asked of the engine, and settled with one event.

Inspects, never lists: while a start hangs, a list says "created", and an inspection waits for the truth.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from lifecycle.clock import Clock
from lifecycle.engines.base import Engine, Sighting
from lifecycle.exceptions import Cause, EngineUnreachable, LabelError, Missing, StartFailed
from lifecycle.models import Instance, State
from lifecycle.transitions import readiness
from lifecycle.transitions.claims import Claims, Started

#: A start that an engine has not begun by then, it was never asked for.
SECOND_LOOK_SECONDS = 2
#: How often an engine that does not answer is asked again, and for how long.
ASK_AGAIN_SECONDS = 0.5
GIVE_UP_SECONDS = 30
DEFAULT_GRACE = timedelta(seconds=10)


class Recovery:
    """Ends runs and stops, for the worker of `claims`. Its methods raise ClaimLost where another worker did it."""

    def __init__(self, engine: Engine, claims: Claims, clock: Clock, probe: readiness.Probe) -> None:
        self._engine = engine
        self._claims = claims
        self._clock = clock
        self._probe = probe
        #: By instance: the run whose claim was a dead worker's, also where it could not be settled at the first try.
        self._inherited: dict[str, int] = {}

    def recover(self, row: Instance, *, theirs: bool) -> None:
        """Takes a claim over and settles it; `theirs`: it was a dead worker's.

        Raises EngineUnreachable, when it cannot be settled yet: then it is a claim still.
        """
        with self._claims.at_work(row.name):
            if not self._claims.take_over(row):
                return
            if theirs:
                self._inherited[row.name] = row.run
            more = {"recovered": True} if self._inherited.get(row.name) == row.run else {}
            if row.state == State.STOPPING:
                self.stop_and_settle(row, **more)
            else:
                self._settle_start(row, **more)

    def stop_and_settle(self, row: Instance, **more: Any) -> None:
        """The engine may have stopped it already: once more does no harm."""
        self._stop_engine(row)
        self._claims.settle_stopped(row, **more)

    def settle_unknown(self, row: Instance, error: EngineUnreachable, began: float) -> None:
        """A start of ours whose call timed out or lost its connection.

        Raises StartFailed, where it failed; EngineUnreachable, while nobody can tell.
        """
        was_asked = error.was_asked  # for the start; what becomes of the questions below says nothing of that
        lost = self._clock.monotonic()
        while was_asked and self._clock.monotonic() - lost < GIVE_UP_SECONDS:
            try:
                return self._settle_start(row, began)
            except EngineUnreachable as again:
                error = again
                self._clock.sleep(ASK_AGAIN_SECONDS)
        if was_asked:  # it may run yet: the claim stays, and a sweep settles it when the engine answers
            raise error
        failure = StartFailed(row.name, Cause.ENGINE_UNREACHABLE, str(error))
        self._claims.settle_failed(row, failure)
        raise failure from error

    def ready_or_stopped(self, row: Instance, mark: str = "") -> Sighting:
        """What was seen when it was ready. Raises StartFailed when it was not, and does not run any more."""
        try:
            return readiness.wait_until_ready(self._engine, row.name, self._clock, self._probe, mark)
        except Missing as error:
            raise readiness.missing(error) from error
        except LabelError as error:
            self._stop_engine(row)
            raise StartFailed(
                row.name, Cause.NOT_READY, f"was made anew meanwhile, with labels in error: {error}"
            ) from error
        except StartFailed:
            self._stop_engine(row)
            raise

    def _settle_start(self, row: Instance, began: float | None = None, **more: Any) -> None:
        try:
            interrupted = "Dormouse" if began is None else "the engine"
            started = Started(self._seen_ready(row, interrupted), self._latency_ms(row, began), {})
        except StartFailed as failure:
            self._claims.settle_failed(row, failure, **more)
            if began is not None:
                raise
        else:
            self._claims.settle_started(row, started, **more)

    def _seen_ready(self, row: Instance, interrupted: str) -> Sighting:
        """The start is ours only where the incarnation has changed. Raises StartFailed."""
        try:
            seen = self._engine.inspect(row.name)
            if seen.incarnation == row.incarnation:
                self._clock.sleep(SECOND_LOOK_SECONDS)
                seen = self._engine.inspect(row.name)
        except Missing:
            raise _interrupted(
                row, f"{interrupted} was interrupted, and the engine does not have it any more"
            ) from None
        if seen.incarnation == row.incarnation:
            raise _interrupted(row, f"{interrupted} was interrupted before the start; the next dispatch tries again")
        if not seen.running:
            over = readiness.ended(self._engine, seen)
            raise replace(over, cause=Cause.INTERRUPTED, error=f"{interrupted} was interrupted, and it {over.error}")
        return self.ready_or_stopped(row)

    def _latency_ms(self, row: Instance, began: float | None) -> int:
        """From the claim: by the monotonic clock of the one who claimed it, else by wall time, and never negative."""
        if began is not None:
            return readiness.ms(self._clock.monotonic() - began)
        return max(0, readiness.ms((self._clock.now() - row.since).total_seconds()))

    def _stop_engine(self, row: Instance) -> None:
        """Returns when it does not run, also when there is none. Raises EngineUnreachable.

        The claim is checked last of all: an inspection may wait for seconds, in which another takes over.
        """
        try:
            labels = self._engine.inspect(row.name).labels
            grace = DEFAULT_GRACE if isinstance(labels, LabelError) else labels.stop_timeout
            self._claims.check(row)
            self._engine.stop(row.name, grace.total_seconds())
        except Missing:
            pass


def _interrupted(row: Instance, error: str) -> StartFailed:
    return StartFailed(row.name, Cause.INTERRUPTED, error)
