"""Who is alive: every Dormouse process beats a counter in the database; leases and claims name their worker.

A worker is dead at once if it lived on this boot and its pid with that start time is gone; else when its counter has
not moved for SILENT_SECONDS of the observer's own monotonic clock.
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
from lifecycle.workers import processes as procfs

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5
#: One that could not beat for so long makes no engine call: others may be about to take its claims over.
DOUBT_SECONDS = 10
SILENT_SECONDS = 20
#: The row of a silent worker is kept, for it may only be frozen; but not for ever.
FORGET_SECONDS = 3600


class ThisWorker:
    """This process, as other processes see it. `kind` is "web", "supervise" or "dispatch"."""

    def __init__(self, kind: str, clock: Clock | None = None) -> None:
        self.id = uuid.uuid4()
        self._kind = kind
        self._clock = clock or Clock()
        self._beaten: float | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Makes itself known, and beats from a thread of its own from now on. Raises DatabaseError."""
        self.beat()
        threading.Thread(target=self._beat_until_ended, name="beat", daemon=True).start()

    def beat(self) -> None:
        """Also makes itself known again, where others have forgotten it. Raises DatabaseError."""
        if not Worker.objects.filter(id=self.id).update(beat=F("beat") + 1):
            Worker.objects.create(
                id=self.id,
                kind=self._kind,
                home=procfs.home(),
                pid=os.getpid(),
                pid_started=procfs.started(os.getpid()) or "",
                started=self._clock.now(),
            )
        self._beaten = self._clock.monotonic()

    def is_in_doubt(self) -> bool:
        """Whether others may hold it for dead."""
        return self._beaten is None or self._clock.monotonic() - self._beaten > DOUBT_SECONDS

    def end(self) -> None:
        """Leaves; what it still holds is settled by others at once."""
        self._ended.set()
        Worker.objects.filter(id=self.id).delete()

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self.beat()
            except DatabaseError as error:
                logger.warning("Could not beat: %s", error)
                connections.close_all()
        connections.close_all()


class Watch:
    """Who is dead, as one observer sees it. It must be asked now and then, for silence takes time to notice.

    The observer itself, `worker`, never is; and as long as it cannot beat or look, nobody's silence counts: it may be
    the database that is silent.
    """

    def __init__(self, clock: Clock | None = None, worker: ThisWorker | None = None) -> None:
        self._clock = clock or Clock()
        self._worker = worker
        self._asked = 0.0
        self._home = procfs.home()
        #: By worker: its counter, and when that was first seen.
        self._seen: dict[uuid.UUID, tuple[int, float]] = {}
        self._asking = threading.Lock()

    def dead(self, owners: Iterable[uuid.UUID | None]) -> set[uuid.UUID | None]:
        """Those of `owners` that are dead; nobody (None) and the unknown are."""
        asked = set(owners)  # before the workers: one that begins meanwhile is known before it owns anything
        workers = {worker.id: worker for worker in Worker.objects.all()}
        with self._asking:
            self._check_own_sight()
            alive = {id for id, worker in workers.items() if self._is_alive(worker)}
            self._seen = {id: seen for id, seen in self._seen.items() if id in workers}
        return asked - alive - ({self._worker.id} if self._worker else set())

    def forget(self) -> None:
        """Deletes the rows of those who cannot come back. What they hold is settled all the same."""
        gone = [worker.id for worker in Worker.objects.all() if self._is_gone(worker)]
        now = self._clock.monotonic()
        with self._asking:
            gone += [id for id, (_, since) in self._seen.items() if now - since > FORGET_SECONDS]
        if gone:
            Worker.objects.filter(id__in=gone).delete()

    def _check_own_sight(self) -> None:
        now = self._clock.monotonic()
        was_away = now - self._asked > SILENT_SECONDS
        self._asked = now
        if was_away or (self._worker and self._worker.is_in_doubt()):
            self._seen.clear()

    def _is_alive(self, worker: Worker) -> bool:
        now = self._clock.monotonic()
        beat, since = self._seen.get(worker.id, (None, now))
        if beat != worker.beat:
            since = now
        self._seen[worker.id] = (worker.beat, since)
        return not self._is_gone(worker) and now - since < SILENT_SECONDS

    def _is_gone(self, worker: Worker) -> bool:
        """Certainly: its pid meant something here, and it is no more."""
        here = bool(self._home) and worker.home == self._home
        return here and procfs.is_gone(worker.pid, worker.pid_started)
