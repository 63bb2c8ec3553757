"""The job of the supervisor that lets each subscription have its turn, in a thread of its own.

So a slow receiver holds up neither the others nor the sweep. Of all processes one delivers to a subscription: it claims
the row, and keeps it until it ends. Another process takes over when the owner is dead (see lifecycle.workers).
"""

import logging
import threading
import uuid

from django.db import DatabaseError, connections

from lifecycle import assembly
from lifecycle.clock import Clock
from lifecycle.supervision.jobs import Job
from lifecycle.workers.heartbeats import LivenessWatch, ThisWorker
from telling.subscriptions.batches import latest_id
from telling.subscriptions.models import Subscription
from telling.subscriptions.turns import Turn

logger = logging.getLogger(__name__)

#: How often it is looked for events to deliver.
LOOK_SECONDS = 1.0
#: Turns at a time in this process. What is left over has its turn when one of them ends.
MAX_TURNS = 32


class Deliveries:
    """The deliveries of one process."""

    def __init__(self, worker: ThisWorker, clock: Clock) -> None:
        self._worker, self._clock = worker, clock
        self._liveness = LivenessWatch(clock, worker)
        self._is_resealed = False
        self._lock = threading.Lock()
        #: The subscriptions that have their turn now, and when the others had their latest one.
        self._busy: set[int] = set()
        self._latest: dict[int, float] = {}

    def begin_due(self) -> None:
        """Begin a turn for each subscription that has something to deliver. Raises DatabaseError."""
        rows = list(Subscription.objects.filter(paused=None))
        if not rows or not self._may_go_on():
            return
        if not self._is_resealed:
            Subscription.objects.reseal()
            self._is_resealed = True
        with self._lock:  # subscriptions that are gone are forgotten
            self._latest = {row.pk: self._latest[row.pk] for row in rows if row.pk in self._latest}
        latest, now = latest_id(), self._clock.now()
        due = [row for row in rows if row.cursor < latest and not row.is_waiting(now)]
        dead = self._liveness.find_dead(row.owner for row in rows)
        for row in sorted(due, key=lambda row: self._latest.get(row.pk, 0)):
            if row.owner == self._worker.id or row.owner in dead:
                self._begin(row)

    def _begin(self, row: Subscription) -> None:
        with self._lock:
            if row.pk in self._busy or len(self._busy) >= MAX_TURNS:
                return
            self._busy.add(row.pk)
        try:
            threading.Thread(target=self._run, args=(row,), name=f"delivery {row.name}", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            self._end(row)
            raise

    def _run(self, row: Subscription) -> None:
        try:
            if row.owner == self._worker.id or Subscription.objects.claim(row, self._worker.id):
                # Read again: the turn before this one may have moved the cursor after the row was read.
                mine = Subscription.objects.filter(pk=row.pk, owner=self._worker.id, paused=None).first()
                if mine and not mine.is_waiting(self._clock.now()):
                    Turn(mine, self._clock, self._may_go_on).run()
        except DatabaseError as error:
            logger.warning("Deliveries to %s stop for now, because the database cannot be used: %s", row.name, error)
        except Exception:
            logger.exception("Deliveries to the subscription %s failed; they are tried again", row.name)
        finally:
            connections.close_all()
            self._end(row)

    def _end(self, row: Subscription) -> None:
        with self._lock:
            self._busy.discard(row.pk)
            self._latest[row.pk] = self._clock.monotonic()

    def _may_go_on(self) -> bool:
        """Return whether no other process can take this one for dead."""
        return not (self._worker.has_ended or self._worker.heartbeat_overdue())


#: By worker of this process: its deliveries.
_deliveries: dict[uuid.UUID, Deliveries] = {}


def begin_due() -> None:
    """Begin the turns that are due in this process, as each of its workers."""
    for worker in assembly.workers():
        deliveries = _deliveries.setdefault(worker.id, Deliveries(worker, assembly.clock))
        deliveries.begin_due()


DELIVERING = Job("deliver to subscriptions", LOOK_SECONDS, begin_due)
