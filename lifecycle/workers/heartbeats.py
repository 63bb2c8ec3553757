"""Heartbeats: every Dormouse process counts up a number in the database, and so the others know that it is alive.

Leases and claims name their worker. A worker is dead at once if it ran on this boot and the process with its pid and
start time is gone. Else it is dead when its counter has not moved for SILENT_SECONDS of the observer's monotonic clock,
so the clocks of two machines are never compared.
"""

import logging
import os
import threading
import uuid
from collections.abc import Iterable

from django.db import DatabaseError, connections
from django.db.models import F

from lifecycle.clock import Clock
from lifecycle.models import Worker
from lifecycle.workers import processes

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5
#: A worker whose latest heartbeat is older makes no engine call, because others may be about to take its claims over.
OVERDUE_SECONDS = 10
SILENT_SECONDS = 20
#: The row of a silent worker is kept for this long, because its process may only be frozen.
FORGET_SECONDS = 3600


class ThisWorker:
    """This process, as other processes see it. `kind` is "web", "supervise" or "dispatch"."""

    def __init__(self, kind: str, clock: Clock | None = None) -> None:
        self.id = uuid.uuid4()
        self._kind = kind
        self._clock = clock or Clock()
        self._latest: float | None = None
        #: How often the heartbeat has been overdue. What others might have ended meanwhile is to be made again.
        self.lapses = 0
        #: Why the latest heartbeat could not be written. Empty if it was.
        self.trouble = ""
        self._ended = threading.Event()

    def start(self) -> None:
        """Register this worker, and send heartbeats from a thread of its own from now on. Raises DatabaseError."""
        self.send_heartbeat()
        threading.Thread(target=self._send_until_ended, name="heartbeat", daemon=True).start()

    def send_heartbeat(self) -> None:
        """Count up once. Register the worker if it has no row, or others have forgotten it. Raises DatabaseError."""
        self._clock.read()
        if not Worker.objects.filter(id=self.id).update(heartbeat=F("heartbeat") + 1):
            Worker.objects.create(
                id=self.id,
                kind=self._kind,
                home=processes.home(),
                pid=os.getpid(),
                pid_started=processes.start_ticks(os.getpid()) or "",
                started=self._clock.now(),
            )
        if self._latest is not None and self.heartbeat_overdue():
            self.lapses += 1
        self._latest = self._clock.monotonic()
        if self.trouble:
            logger.info("Resolved: the database can be written again")
        self.trouble = ""

    def heartbeat_overdue(self) -> bool:
        """Return whether other workers may take this one for dead."""
        return self._latest is None or self._clock.monotonic() - self._latest > OVERDUE_SECONDS

    @property
    def has_ended(self) -> bool:
        """True if this worker was unregistered."""
        return self._ended.is_set()

    def end(self) -> None:
        """Unregister this worker. Other workers settle at once what it still holds."""
        self._ended.set()
        Worker.objects.filter(id=self.id).delete()

    def _send_until_ended(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                self.send_heartbeat()
            except DatabaseError as error:
                if str(error) != self.trouble:
                    logger.warning("The heartbeat could not be written to the database: %s", error)
                self.trouble = str(error)
                connections.close_all()
        connections.close_all()


class LivenessWatch:
    """Decides which workers are dead, as one observer sees them. Ask it regularly, because silence takes time to see.

    The observer's own worker is never dead. While the observer could not write its heartbeat, or has not asked for
    SILENT_SECONDS, no worker's silence counts, because then the database may be what is silent.
    """

    def __init__(self, clock: Clock | None = None, worker: ThisWorker | None = None) -> None:
        self._clock = clock or Clock()
        self._worker = worker
        self._asked = 0.0
        self._home = processes.home()
        #: By worker: its counter, and the monotonic time when that value was first seen.
        self._seen: dict[uuid.UUID, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def find_dead(self, owners: Iterable[uuid.UUID | None]) -> set[uuid.UUID | None]:
        """Return those of `owners` that are dead. An unknown worker is dead, and so is None."""
        asked = set(owners)  # read before the workers: a worker is registered before it owns anything
        workers = {worker.id: worker for worker in Worker.objects.all()}
        with self._lock:
            self._forgive_silence_if_away()
            alive = {id for id, worker in workers.items() if self._is_alive(worker)}
            self._seen = {id: seen for id, seen in self._seen.items() if id in workers}
        return asked - alive - ({self._worker.id} if self._worker else set())

    def forget(self) -> None:
        """Delete the rows of workers that cannot come back. What they hold is settled without their rows, too."""
        gone = [worker.id for worker in Worker.objects.all() if self._is_gone(worker)]
        now = self._clock.monotonic()
        with self._lock:
            gone += [id for id, (_, since) in self._seen.items() if now - since > FORGET_SECONDS]
        if gone:
            Worker.objects.filter(id__in=gone).delete()

    def _forgive_silence_if_away(self) -> None:
        now = self._clock.monotonic()
        was_away = now - self._asked > SILENT_SECONDS
        self._asked = now
        if was_away or (self._worker and self._worker.heartbeat_overdue()):
            self._seen.clear()

    def _is_alive(self, worker: Worker) -> bool:
        now = self._clock.monotonic()
        heartbeat, since = self._seen.get(worker.id, (None, now))
        if heartbeat != worker.heartbeat:
            since = now
        self._seen[worker.id] = (worker.heartbeat, since)
        return not self._is_gone(worker) and now - since < SILENT_SECONDS

    def _is_gone(self, worker: Worker) -> bool:
        """Return whether the worker's process is known to have ended: it ran on this boot, and is gone."""
        is_here = bool(self._home) and worker.home == self._home
        return is_here and processes.is_gone(worker.pid, worker.pid_started)
