"""Work that failed, told as events: at most one a minute for an instance and status, which counts the others.

An agent that answers 500 to 400 requests a second would otherwise fill the log with 18 GB a day.
"""

import logging
import threading
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.models import F, Q
from tenacity import Retrying, retry_if_exception_type, wait_fixed

from lifecycle import signals
from lifecycle.clock import Clock, as_text
from lifecycle.exceptions import MAX_ERROR_CHARACTERS, storable
from lifecycle.models import Instance, WorkFailure
from lifecycle.signals import Sink
from lifecycle.transitions.retries import log_failed_try

logger = logging.getLogger(__name__)

#: The time from one event to the next one of the same instance and status.
INTERVAL = timedelta(minutes=1)
#: How often one process writes what has failed in it.
WRITE_SECONDS = 1


class WorkFailures:
    """Counts the failures of one process, and tells them."""

    def __init__(self, clock: Clock, sink: Sink) -> None:
        self._clock = clock
        self._sink = sink
        #: Held while failures are written, in addition to `_lock`, which is held only for a moment.
        self._one_writer = threading.Lock()
        self._lock = threading.Lock()
        #: By instance and status: how many are not written yet, and the data of the latest.
        self._unwritten: dict[tuple[str, int], tuple[int, dict[str, Any]]] = {}
        #: The instances of which no work has succeeded since the latest failure.
        self._failing: set[str] = set()
        self._is_writing = False
        self._ending = threading.Event()

    def report(self, instance: str, *, status: int, error: str, seconds: float, **more: Any) -> None:
        """Report one piece of work that failed. This does not wait, so a coroutine may call it.

        Args:
            instance: its name.
            status: what the caller got; of an answer that broke off, the status that was sent.
            error: continues the sentence "NAME failed at work: ".
            seconds: how long it had worked.
            more: added to the event's data.
        """
        error = storable(error)[:MAX_ERROR_CHARACTERS]
        data = {"error": error, "status": status, "seconds": round(seconds, 3), **more}
        with self._lock:
            count, _ = self._unwritten.get((instance, status), (0, {}))
            self._unwritten[instance, status] = (count + 1, data)
            self._failing.add(instance)
            if not self._is_writing:
                with suppress(RuntimeError):  # the system gives no more threads; the next failure tries again
                    threading.Thread(target=self._write_repeatedly, name="work failures", daemon=True).start()
                    self._is_writing = True

    def note_success(self, instance: str) -> bool:
        """Note that work has succeeded. Return whether earlier work had failed in this process. This does not wait."""
        with self._lock:
            was_failing = instance in self._failing
            self._failing.discard(instance)
            return was_failing

    def shut_down(self) -> None:
        """Write what is not written yet, at one try."""
        self._ending.set()
        try:
            self._write()
        except DatabaseError as error:
            logger.warning("Some work that failed could not be told: %s", error)

    def count(self, instance: str, status: int, count: int, data: dict[str, Any], *, is_latest: bool = True) -> None:
        """Count failures in the database, and tell them if the latest event of their kind is old enough.

        Unless work has succeeded since (`is_latest` is False), the instance's row keeps the failure.
        """
        kind = WorkFailure.objects.filter(instance=instance, status=status)
        kept = {"at": as_text(self._clock.now()), "error": data["error"], "status": status}
        with transaction.atomic():
            if is_latest:
                Instance.objects.note_failed_work(instance, kept)
            while not kind.update(count=F("count") + count, latest=data):
                WorkFailure.objects.bulk_create([WorkFailure(instance=instance, status=status)], ignore_conflicts=True)
            self._tell(kind.get().pk)

    def tell_due(self) -> None:
        """Tell what was counted since an event that is old enough by now."""
        for pk in WorkFailure.objects.filter(self._is_due(), count__gt=0).values_list("pk", flat=True):
            with transaction.atomic():
                self._tell(pk)
        WorkFailure.objects.filter(self._is_due(), count=0).delete()

    def _tell(self, pk: int) -> None:
        row = WorkFailure.objects.select_for_update().filter(self._is_due(), pk=pk, count__gt=0).first()
        if row is None:
            return
        now = self._clock.now()
        WorkFailure.objects.filter(pk=pk).update(count=0, told_at=now)
        counted = {"count": row.count} if row.count > 1 else {}
        logger.warning("%s failed at work: %s", row.instance, row.latest["error"])
        self._sink(signals.work_failed, instance=row.instance, at=now, **row.latest, **counted)

    def _is_due(self) -> Q:
        now = self._clock.now()  # an event in the future was told before the wall clock was set back
        return Q(told_at=None) | Q(told_at__lte=now - INTERVAL) | Q(told_at__gt=now)

    def _write_repeatedly(self) -> None:
        retrying = Retrying(
            retry=retry_if_exception_type(DatabaseError),
            wait=wait_fixed(WRITE_SECONDS),
            before_sleep=log_failed_try(logger, "Work that failed is not saved yet: %s"),
        )
        try:
            while retrying(self._write) and not self._ending.wait(WRITE_SECONDS):
                pass
        finally:
            connections.close_all()

    def _write(self) -> bool:
        """Count what is not written yet. Return False, and let the next failure begin again, if there is nothing."""
        with self._one_writer:
            with self._lock:
                self._is_writing = bool(self._unwritten)
                found = list(self._unwritten.items())
            for kind, (count, data) in found:
                is_latest = kind[0] in self._failing
                self.count(*kind, count, data, is_latest=is_latest)
                if is_latest and kind[0] not in self._failing:  # work has succeeded meanwhile, and noted it too early
                    Instance.objects.note_succeeded_work(kind[0])
                self._subtract(kind, count)
            return bool(found)

    def _subtract(self, kind: tuple[str, int], written: int) -> None:
        with self._lock:
            count, latest = self._unwritten.pop(kind)
            if count > written:
                self._unwritten[kind] = (count - written, latest)
