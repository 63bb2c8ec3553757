"""The leases of this process's dispatches: one for each instance, however much work it has in flight.

The work is counted in memory (`Holds`). The row of the lease is inserted before the first piece of work is sent,
written again once a second while there is work, and deleted soon after the last piece has ended. So a dispatch to an
instance that has a lease writes nothing: one query tells that its row has not changed and that the lease is there.
docs/decisions/0053-shared-leases.md has the reasons.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db import DatabaseError, connection, connections

from lifecycle.clock import Clock
from lifecycle.dispatch.in_flight.holds import Hold, Holds, Inserted, Known, SharedLease
from lifecycle.dispatch.inspections import Inspections
from lifecycle.engines.base import Inspection, are_of_two_containers
from lifecycle.orders import Order
from lifecycle.state_machine import ALWAYS
from lifecycle.transitions.leases import Leases, reached_as_probed, read_with_lease
from lifecycle.workers.heartbeats import ThisWorker

logger = logging.getLogger(__name__)

#: How often the row is written while there is work. This also makes sure that it is there.
WRITE_SECONDS = 1
TICK_SECONDS = 0.25

#: Whether an instance's row has the given version and lease, is not disabled, and tells of no failed work. (If it told
#: of any, it would have to be read, so that a success removes that.) Django's ORM takes ten times as long to make this.
IS_UNCHANGED = """
SELECT 1 FROM lifecycle_instance JOIN lifecycle_lease ON lifecycle_lease.instance_id = lifecycle_instance.name
WHERE lifecycle_instance.name = %s AND lifecycle_instance.version = %s AND lifecycle_lease.id = %s
AND lifecycle_instance.disabled IS NULL AND lifecycle_instance.work_failure IS NULL
"""


@dataclass(frozen=True)
class Leased:
    """A piece of work that may be sent: what it holds, and an inspection of its instance."""

    hold: Hold
    seen: Inspection
    #: The number of the instance's latest start by Dormouse.
    run: int


class SharedLeases:
    """The leases of one process's dispatches. Any thread may call it."""

    def __init__(
        self,
        leases: Leases,
        inspections: Inspections,
        worker: ThisWorker,
        clock: Clock,
        submit: Callable[[Callable[[], None]], object],
    ) -> None:
        """Set up the leases. `submit` runs short work in another thread."""
        self._leases = leases
        self._inspections = inspections
        self._worker = worker
        self._clock = clock
        self._submit = submit
        self._holds = Holds(worker.id, clock)
        self._keeper: threading.Thread | None = None
        #: Held while a keeper is started, so that no other thread sees one that has not started.
        self._starting = threading.Lock()
        self._is_ending = threading.Event()

    def begin(self, name: str, order: Order) -> Hold:
        """Count a piece of work in, until `end`. This does not wait."""
        return self._holds.begin(name, order.caller())

    def end(self, hold: Hold) -> None:
        """Count a piece of work out. This does not wait."""
        if self._holds.end(hold):
            self._submit(lambda: self._try_to_settle(hold.lease))

    def take(self, hold: Hold, *, may_recall: bool) -> Leased | None:
        """Return what a piece of work may be sent with, or None if the instance must be woken first.

        `may_recall`: whether a remembered inspection is enough.

        Raises Neighbour, Disabled, LabelError and EngineUnreachable.
        """
        self._leases.neighbours.check()
        if self._worker.heartbeat_overdue():
            self._worker.send_heartbeat()  # others may have ended this worker's leases, or be about to
        lease = hold.lease
        known = lease.known if may_recall else None
        if known and self._inspections.recall(lease.name) is known.asked and self._is_unchanged(lease, known):
            return Leased(hold, known.seen, known.run)
        return self._look_and_take(hold, may_recall=may_recall)

    def keep(self) -> None:
        """Delete the leases that are over, and write those that have not been written for WRITE_SECONDS."""
        for lease in self._holds.kept():
            if lease.is_over or self._clock.monotonic() - lease.written >= WRITE_SECONDS:
                self._try_to_settle(lease)

    def shut_down(self) -> None:
        """Delete the leases that no work holds. Others end the rest when this worker is unregistered."""
        self._is_ending.set()
        with self._starting:
            keeper = self._keeper  # read once, because it may end at any moment
        if keeper:
            keeper.join()
        for lease in self._holds.kept(linger_seconds=0):
            if lease.is_over:
                self._try_to_settle(lease)

    def _is_unchanged(self, lease: SharedLease, known: Known) -> bool:
        if lease.inserted is None or lease.inserted.lapses != self._worker.lapses:
            return False
        with connection.cursor() as cursor:
            cursor.execute(IS_UNCHANGED, [lease.name, known.version, known.lease_id])
            return cursor.fetchone() is not None

    def _look_and_take(self, hold: Hold, *, may_recall: bool) -> Leased | None:
        lease, lapses = hold.lease, self._worker.lapses
        lease_id = lease.row.pk
        row, has_lease = read_with_lease(lease.name, lease_id)
        found = self._leases.look_at(row, self._inspections.recall_or_ask if may_recall else self._inspections.ask)
        if row is None or found is None:
            return None
        seen, inserted = found[1], Inserted(row.run, row.incarnation, lapses)
        if not has_lease or lease.inserted != inserted:
            return Leased(hold, seen, row.run) if self._insert(hold, lease_id, inserted) else None
        asked = self._inspections.recall(lease.name)
        is_of_this = asked is not None and reached_as_probed(row, asked) == seen  # another thread may have asked anew
        lease.known = Known(row.version, lease_id, asked, seen, row.run) if asked and is_of_this else None
        return Leased(hold, seen, row.run)

    def _insert(self, hold: Hold, lease_id: int | None, inserted: Inserted) -> bool:
        """Insert the lease, unless another dispatch has done that. Return whether there is one.

        `lease_id` is the primary key that the lease had before.
        """
        before = hold.lease.inserted
        if before and are_of_two_containers(before.incarnation, inserted.incarnation):
            self._holds.leave(hold)  # containers were renamed, and the work of the other one may go on
            lease_id = None
        lease = hold.lease
        with lease.writing:
            if lease.row.pk != lease_id:
                return lease.inserted == inserted
            if not self._holds.read_into_row(lease):
                return False  # the caller has given up
            if not self._leases.insert_as(lease.row, inserted.incarnation):
                return False
            self._holds.mark_inserted(lease, inserted)
            self._holds.mark_written(lease)
        self._keep_in_thread()
        return True

    def _try_to_settle(self, lease: SharedLease) -> None:
        """Write or delete the row. If that fails, the keeper tries it again."""
        try:
            self._delete(lease) if lease.is_over else self._write(lease)
        except DatabaseError as error:
            logger.warning("The lease of %s could not be written, trying again: %s", lease.name, error)
            connections.close_all()
            self._keep_in_thread()

    def _write(self, lease: SharedLease) -> None:
        """Write what work holds the lease. If others took this process for dead and ended it, insert it again.

        That also holds for an instance that was disabled meanwhile, because its work in flight ends first.
        """
        with lease.writing:
            if lease.row.pk is None or lease.inserted is None or not self._holds.read_into_row(lease):
                return
            if not self._leases.update(lease.row):
                lease.known = None
                if self._leases.insert_as(lease.row, lease.inserted.incarnation, ALWAYS):
                    logger.warning("The lease of %s had been ended by another process, and was made again", lease.name)
            self._holds.mark_written(lease)

    def _delete(self, lease: SharedLease) -> None:
        """Delete the row of a lease that is over. The idle time began when its last work ended."""
        with lease.writing:
            if lease.row.pk is not None:
                self._holds.read_into_row(lease)
                ago = timedelta(seconds=self._clock.monotonic() - lease.ended)
                self._leases.end([lease.row], self._clock.now() - ago)
                lease.row.pk = None
            self._holds.forget(lease)

    # The keeper: a thread that lives while there are leases.

    def _keep_in_thread(self) -> None:
        with self._starting:
            if self._keeper is None and not self._is_ending.is_set():
                self._keeper = threading.Thread(target=self._keep_while_needed, name="leases", daemon=True)
                try:
                    self._keeper.start()
                except RuntimeError:  # the system gives no more threads
                    self._keeper = None
                    raise

    def _keep_while_needed(self) -> None:
        while not self._is_ending.wait(TICK_SECONDS) and not self._holds.end_if_none(self._note_no_keeper):
            try:
                self.keep()
            except Exception:  # without a keeper, leases would keep their instances awake for ever
                logger.exception("The leases could not be kept; trying again")
                connections.close_all()
        connections.close_all()

    def _note_no_keeper(self) -> None:
        self._keeper = None
