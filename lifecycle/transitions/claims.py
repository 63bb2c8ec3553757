"""Claims: who is at work on a transition, and the one commit that ends it with its event.

A claim is a row in `starting` or `stopping` with its owner. It is settled by its owner, or recovered by somebody else.
"""

import copy
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, OperationalError, transaction
from django.dispatch import Signal

from lifecycle import signals
from lifecycle.clock import Clock
from lifecycle.engines.base import Sighting
from lifecycle.exceptions import ClaimLost, StartFailed
from lifecycle.models import Instance, State
from lifecycle.workers.heartbeats import ThisWorker

logger = logging.getLogger(__name__)

#: Between the tries of a commit: at first, and at most.
FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 5
#: How long a worker that cannot beat is waited for.
GIVE_UP_SECONDS = 30

#: What the operator's log says of each, after its commit.
SAID = {
    signals.lazy_started: (logging.INFO, "%s started (run %d: %s)"),
    signals.lazy_stopped: (logging.INFO, "%s stopped (run %d: %s)"),
    signals.lazy_start_failed: (logging.WARNING, "%s failed to start (run %d: %s)"),
}

#: Is told of every event as `sink(signal, **data)`, inside the transaction that reports it.
Sink = Callable[..., None]


@dataclass(frozen=True)
class Started:
    """A start that succeeded: what was seen then, how long it took, and of what that is made."""

    seen: Sighting
    latency_ms: int
    parts_ms: dict[str, int]


class Claims:
    """The claims that one worker makes, checks and settles."""

    def __init__(self, worker: ThisWorker, clock: Clock, sink: Sink) -> None:
        self._worker = worker
        self._clock = clock
        self._sink = sink
        self._at_work: Counter[str] = Counter()
        self._counting = threading.Lock()

    @contextmanager
    def at_work(self, name: str) -> Iterator[None]:
        """Around making and settling a claim: inside, this process does not hold it for abandoned."""
        with self._counting:
            self._at_work[name] += 1
        try:
            yield
        finally:
            with self._counting:
                self._at_work[name] -= 1

    def is_abandoned(self, row: Instance) -> bool:
        """Whether `row` is a claim of this worker that none of its threads is at work on."""
        return row.owner == self._worker.id and not self._at_work[row.name]

    def start(self, row: Instance, incarnation: str) -> bool:
        """Begins a run, and keeps which incarnation was seen before it. False: somebody else changed the row."""
        return self._claim(row, state=State.STARTING, run=row.run + 1, incarnation=incarnation, probed=False)

    def stop(self, row: Instance, idle_seconds: int) -> bool:
        """The same of a stop."""
        return self._claim(row, state=State.STOPPING, idle_seconds=idle_seconds)

    def take_over(self, row: Instance) -> bool:
        """From a dead worker. The claim is as old as it was."""
        return not self._worker.is_in_doubt() and Instance.objects.change(row, owner=self._worker.id)

    def _claim(self, row: Instance, **values: Any) -> bool:
        if self._worker.is_in_doubt():
            return False
        return Instance.objects.change(row, since=self._clock.now(), owner=self._worker.id, **values)

    def wait_out_doubt(self) -> None:
        """A worker in doubt waits until it has beaten again: a database that was locked for seconds loses no claim.

        Raises OperationalError where that takes too long for whoever waits for it.
        """
        began = self._clock.monotonic()
        while self._worker.is_in_doubt():
            if self._clock.monotonic() - began > GIVE_UP_SECONDS:
                raise OperationalError(f"nothing could be written to the database for {GIVE_UP_SECONDS} s")
            self._clock.sleep(FIRST_RETRY_SECONDS)

    def check(self, row: Instance) -> None:
        """Before an engine call that changes something. Raises ClaimLost, and as `wait_out_doubt`."""
        self.wait_out_doubt()
        mine = Instance.objects.filter(pk=row.pk, version=row.version, owner=self._worker.id)
        if not mine.exists():
            raise ClaimLost(f"{row.name}: another worker may have taken run {row.run} over")

    def settle_started(self, row: Instance, started: Started, **more: Any) -> None:
        """`more` goes with the event. Raises ClaimLost, as all of these."""
        self._settle(
            row,
            signals.lazy_started,
            {"latency_ms": started.latency_ms, **started.parts_ms, **more},
            state=State.READY,
            incarnation=started.seen.incarnation,
            probed=True,
            last_used=self._clock.now(),
        )

    def settle_failed(self, row: Instance, failure: StartFailed, **more: Any) -> None:
        data = failure.data() | more
        kept = {"run": row.run, "at": self._clock.now().isoformat(), **data}
        self._settle(row, signals.lazy_start_failed, data, state=State.ASLEEP, failure=kept)

    def settle_stopped(self, row: Instance, **more: Any) -> None:
        data = {"idle_seconds": row.idle_seconds or 0, **more}
        self._settle(row, signals.lazy_stopped, data, state=State.ASLEEP, idle_seconds=None)

    def _settle(self, row: Instance, signal: Signal, data: dict[str, Any], **values: Any) -> None:
        """Tried until it lands, for what it says has happened."""
        pause = FIRST_RETRY_SECONDS
        while True:
            try:
                return self._commit(copy.copy(row), signal, data, values)
            except DatabaseError as error:
                logger.warning("%s: what became of run %d is not saved yet: %s", row.name, row.run, error)
            self._clock.sleep(pause)
            pause = min(2 * pause, LAST_RETRY_SECONDS)

    def _commit(self, row: Instance, signal: Signal, data: dict[str, Any], values: dict[str, Any]) -> None:
        now = self._clock.now()
        with transaction.atomic():
            if not Instance.objects.change(row, since=now, owner=None, **values):
                raise ClaimLost(f"{row.name}: another worker has settled run {row.run}")
            self._sink(signal, instance=row.name, run=row.run, at=now, **data)
        facts = ", ".join(f"{key} {value}" for key, value in data.items() if key != "log_tail")
        logger.log(*SAID[signal], row.name, row.run, facts)
