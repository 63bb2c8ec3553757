"""Claims: which worker is at work on a transition, and the one commit that ends a transition together with its event.

A claim is a row in `starting` or `stopping` with its owner. Its owner settles it, or another worker takes it over.
"""

import copy
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import DatabaseError, OperationalError, transaction
from django.db.models import Q
from django.dispatch import Signal
from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_result, wait_exponential, wait_fixed

from lifecycle import signals
from lifecycle.clock import Clock, as_text
from lifecycle.engines.base import Inspection
from lifecycle.exceptions import ClaimLost, StartFailed
from lifecycle.models import Instance
from lifecycle.orders import Order
from lifecycle.signals import Sink
from lifecycle.state_machine import ALWAYS, Mode
from lifecycle.transitions.ending import RunEnd
from lifecycle.transitions.retries import log_failed_try
from lifecycle.workers.heartbeats import ThisWorker

logger = logging.getLogger(__name__)

#: The pause between two tries of a commit: at first, and at most.
FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 5
#: How long a dispatch waits for this worker's heartbeat to succeed again.
GIVE_UP_SECONDS = 30

#: The pause after the first failed stop of a series. It doubles with each further one.
FIRST_STOP_PAUSE, LAST_STOP_PAUSE = timedelta(minutes=1), timedelta(hours=1)
MAX_DOUBLINGS = 10

#: What the operator's log says of each event after its commit: the level and the message.
LOG_MESSAGES = {
    signals.lazy_started: (logging.INFO, "%s started (run %d: %s)"),
    signals.lazy_stopped: (logging.INFO, "%s stopped (run %d: %s)"),
    signals.lazy_stop_failed: (logging.WARNING, "%s could not be stopped (run %d: %s)"),
    signals.lazy_start_failed: (logging.WARNING, "%s failed to start (run %d: %s)"),
}


@dataclass(frozen=True)
class Started:
    """A start that succeeded: the inspection that showed it ready, how long it took, and how long its parts took."""

    seen: Inspection
    latency_ms: int
    parts_ms: dict[str, int]


class Claims:
    """The claims that one worker makes, checks and settles."""

    def __init__(self, worker: ThisWorker, clock: Clock, sink: Sink) -> None:
        self._worker = worker
        self._clock = clock
        self._sink = sink
        self._work: Counter[str] = Counter()
        self._counting = threading.Lock()

    @contextmanager
    def working_on(self, name: str) -> Iterator[None]:
        """Surround the making and settling of a claim. Inside, `is_abandoned` is False for the instance.

        ClaimLost ends the block and is only logged, because the worker that took the claim over reports the outcome.
        """
        with self._counting:
            self._work[name] += 1
        try:
            yield
        except ClaimLost as lost:
            logger.warning("%s", lost)
        finally:
            with self._counting:
                self._work[name] -= 1

    def is_abandoned(self, row: Instance) -> bool:
        """Return whether `row` is a claim of this worker that none of its threads works on."""
        return row.owner == self._worker.id and not self._work[row.name]

    def claim_start(self, row: Instance, seen: Inspection | None, order: Order, end: RunEnd | None) -> bool:
        """Begin a run, with a resume if the instance is paused. Return False if the row has changed.

        `seen` is what the engine showed before it. None: there is nothing to start. `end` is noted in the same
        transaction: the run before it has ended by itself, which no event has told.
        """
        if not self._may_claim():
            return False
        now = self._clock.now()
        with transaction.atomic():
            values: dict[str, Any] = {"incarnation": row.incarnation, "needs": row.needs, "mode": Mode.STOP}
            if seen:
                mode = Mode.PAUSE if seen.is_resumable else Mode.STOP
                values = {"incarnation": seen.incarnation, "needs": seen.needs, "mode": mode}
            values["ordered"] = order.data()
            if not Instance.objects.claim_start(row, owner=self._worker.id, now=now, **values):
                return False
            if end:
                end.leave_note(now)
            return True

    def claim_stop(self, row: Instance, idle_seconds: int, order: Order, condition: Q = ALWAYS) -> bool:
        """Begin a stop. Return False if the row has changed, or `condition` does not hold."""
        now, ordered = self._clock.now(), order.data()
        return self._may_claim() and Instance.objects.claim_stop(
            row, owner=self._worker.id, now=now, idle_seconds=idle_seconds, ordered=ordered, condition=condition
        )

    def set_mode(self, row: Instance, mode: Mode) -> None:
        """Change what the claim does: a stop becomes a pause, or a resume becomes a start. Raises ClaimLost."""
        if row.mode != mode and not Instance.objects.set_mode(row, mode):
            raise ClaimLost(f"{row.name}: another worker has taken run {row.run} over")

    def take_over(self, row: Instance) -> bool:
        """Take over a dead worker's claim, keeping its `since`. Return False if the row has changed."""
        return self._may_claim() and Instance.objects.take_over(row, owner=self._worker.id)

    def wait_for_heartbeat(self) -> None:
        """Wait until this worker's heartbeat is not overdue, so that a database locked for seconds loses no claim.

        Raises OperationalError after GIVE_UP_SECONDS, because a dispatch waits for this.
        """
        began = self._clock.monotonic()

        def give_up(state: RetryCallState) -> bool:
            return self._clock.monotonic() - began > GIVE_UP_SECONDS

        def fail(state: RetryCallState) -> None:
            raise OperationalError(f"nothing could be written to the database for {GIVE_UP_SECONDS} s")

        Retrying(
            retry=retry_if_result(bool),
            wait=wait_fixed(FIRST_RETRY_SECONDS),
            stop=give_up,
            sleep=self._clock.sleep,
            retry_error_callback=fail,
        )(self._worker.heartbeat_overdue)

    def check(self, row: Instance) -> None:
        """Make sure that the claim is still ours, before an engine call that changes something.

        Raises ClaimLost, and OperationalError as `wait_for_heartbeat`.
        """
        self.wait_for_heartbeat()
        ours = Instance.objects.filter(pk=row.pk, version=row.version, owner=self._worker.id)
        if not ours.exists():
            raise ClaimLost(f"{row.name}: another worker may have taken run {row.run} over")

    def settle_started(self, row: Instance, started: Started, **more: Any) -> None:
        """End a start that succeeded. `more` is added to the event's data. Raises ClaimLost."""
        data = {"latency_ms": started.latency_ms, **started.parts_ms, **more}
        settle = partial(
            Instance.objects.settle_started, incarnation=started.seen.incarnation, address=started.seen.address
        )
        self._settle(row, signals.lazy_started, data, settle)

    def settle_failed(self, row: Instance, failure: StartFailed, **more: Any) -> None:
        """End a start that failed. `more` is added to the event's data. Raises ClaimLost."""
        data = failure.data() | more
        kept = {"run": row.run, "at": as_text(self._clock.now()), **data}
        self._settle(row, signals.lazy_start_failed, data, partial(Instance.objects.settle_failed, failure=kept))

    def settle_stopped(self, row: Instance, **more: Any) -> None:
        """End a stop. `more` is added to the event's data. Raises ClaimLost."""
        data = {"idle_seconds": row.idle_seconds or 0, **more}
        self._settle(row, signals.lazy_stopped, data, Instance.objects.settle_stopped)

    def settle_stop_failed(self, row: Instance, error: str, **more: Any) -> None:
        """End a stop that the engine refused. A series of them has one event, at its first. Raises ClaimLost."""
        tries = (row.stop_failure or {"tries": 0})["tries"] + 1
        now = self._clock.now()
        pause = min(FIRST_STOP_PAUSE * 2 ** min(tries - 1, MAX_DOUBLINGS), LAST_STOP_PAUSE)
        failure = {"at": as_text(now), "error": error, "tries": tries, "next_try": as_text(now + pause)}
        data = {"error": error, "idle_seconds": row.idle_seconds or 0, **more}
        settle = partial(Instance.objects.settle_stop_failed, failure=failure)
        self._settle(row, signals.lazy_stop_failed if tries == 1 else None, data, settle)

    def give_stop_up(self, row: Instance) -> None:
        """End a stop that was not made, without an event. Raises ClaimLost."""
        self._settle(row, None, {}, Instance.objects.give_stop_up)

    def _may_claim(self) -> bool:
        """Return False if other workers may take this worker for dead."""
        return not self._worker.heartbeat_overdue()

    def _settle(self, row: Instance, signal: Signal | None, data: dict[str, Any], settle: Callable[..., bool]) -> None:
        """Commit the outcome, with an event if there is a signal, and retry until that succeeds: it has happened.

        The event tells who ordered the claim, also if another worker settles it.
        """
        mode = {"mode": str(row.mode)} if row.mode == Mode.PAUSE else {}
        data = data | mode | (row.ordered or {})
        message = "%s: the outcome of run %d is not saved yet: %s"
        Retrying(
            retry=retry_if_exception_type(DatabaseError),
            wait=wait_exponential(multiplier=FIRST_RETRY_SECONDS, max=LAST_RETRY_SECONDS),
            sleep=self._clock.sleep,
            before_sleep=log_failed_try(logger, message, row.name, row.run),
        )(self._commit, row, signal, data, settle)

    def _commit(self, row: Instance, signal: Signal | None, data: dict[str, Any], settle: Callable[..., bool]) -> None:
        now: datetime = self._clock.now()
        with transaction.atomic():
            if not settle(copy.copy(row), now=now):  # a copy: if the commit fails, `row` must still be what was read
                raise ClaimLost(f"{row.name}: another worker has settled run {row.run}")
            if signal:
                self._sink(signal, instance=row.name, run=row.run, at=now, **data)
        if not signal:
            return
        logger.log(*LOG_MESSAGES[signal], row.name, row.run, ", ".join(_facts_of(data)))


def _facts_of(data: dict[str, Any]) -> list[str]:
    """Return what a line of the log says of an event. The words of a caller are quoted, and look like no other fact."""
    shown = {key: value for key, value in data.items() if key != "log_tail"}
    return [f"{key} {value!r}" if key in ("by", "for") else f"{key} {value}" for key, value in shown.items()]
