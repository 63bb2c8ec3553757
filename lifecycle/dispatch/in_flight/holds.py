"""The work in flight in this process, counted in memory by the leases that it holds."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from lifecycle.clock import Clock
from lifecycle.engines.base import Inspection
from lifecycle.models import MAX_PURPOSES, Lease

#: For how long the lease of a busy instance is kept after its last work, because more work is likely to come.
LINGER_SECONDS = 0.5
#: An instance is busy if its work overlaps, or begins so soon after the work before.
BUSY_SECONDS = 1


@dataclass(eq=False)
class Hold:
    """One piece of work, which holds a shared lease."""

    lease: "SharedLease"
    #: The monotonic time when it began.
    began: float
    #: Who ordered it and what for: the caller of an `Order`.
    caller: dict[str, Any]
    broke_off: bool = False
    #: The wall time when it began, when that has been asked for.
    since: datetime | None = None


@dataclass(frozen=True)
class Inserted:
    """The circumstances in which a lease was inserted. If they change, it proves nothing and is inserted again."""

    run: int
    incarnation: str
    #: How often the heartbeat of this worker had been overdue.
    lapses: int


@dataclass(frozen=True)
class Known:
    """The findings of a dispatch. The next one uses them if the row has this version and `asked` is remembered."""

    version: int
    lease_id: int
    #: The inspection as the engine gave it.
    asked: Inspection
    #: The same, with the address that answered the probe.
    seen: Inspection
    run: int


@dataclass(eq=False)
class SharedLease:
    """The lease of one instance, and the work that holds it."""

    name: str
    #: Its row. Without a primary key it has not been inserted. Only the thread that holds `writing` changes it.
    row: Lease
    #: Held while the row is inserted, written or deleted.
    writing: threading.Lock = field(default_factory=threading.Lock)
    inserted: Inserted | None = None
    #: The monotonic time when the row was written.
    written: float = 0
    known: Known | None = None

    # The following are changed under the lock of `Holds` alone.

    #: The work in flight, the oldest first.
    holds: dict[Hold, None] = field(default_factory=dict)
    #: How many pieces of work broke off and are not yet counted in the database.
    broke_off: int = 0
    #: The monotonic time when the latest work ended.
    ended: float = 0
    #: Whether it is kept for LINGER_SECONDS after its last work (see BUSY_SECONDS).
    is_busy: bool = False
    #: Whether no other work can join, because the row is being deleted.
    is_over: bool = False


class Holds:
    """Counts work in and out. Any thread and any coroutine may call it, because it waits for nothing."""

    def __init__(self, worker_id: Any, clock: Clock) -> None:
        self._worker_id = worker_id
        self._clock = clock
        self._lock = threading.Lock()
        #: The leases that new work can join, by instance.
        self._joinable: dict[str, SharedLease] = {}
        #: All leases whose rows may exist.
        self._kept: set[SharedLease] = set()
        #: By instance: when its latest work ended, and the circumstances in which the lease of that was inserted.
        self._latest: dict[str, tuple[float, Inserted | None]] = {}

    def begin(self, name: str, caller: dict[str, Any]) -> Hold:
        """Count a piece of work in. While it is counted, this process does not delete the lease that it holds."""
        with self._lock:
            lease = self._joinable.get(name)
            if lease:
                lease.is_busy = True
            else:
                lease = self._new(name)
            hold = Hold(lease, self._clock.monotonic(), caller)
            lease.holds[hold] = None
            return hold

    def end(self, hold: Hold) -> bool:
        """Count a piece of work out. Return whether the row of its lease is to be written or deleted at once."""
        with self._lock:
            lease = hold.lease
            if hold not in lease.holds:
                return False
            del lease.holds[hold]
            lease.broke_off += hold.broke_off
            lease.ended = self._clock.monotonic()
            self._latest[lease.name] = (lease.ended, lease.inserted)
            if not lease.holds and (hold.broke_off or not lease.is_busy):
                self._close(lease)
            return hold.broke_off or lease.is_over

    def leave(self, hold: Hold) -> None:
        """Move a piece of work to a new lease. The other work keeps its lease."""
        with self._lock:
            if hold in hold.lease.holds:
                del hold.lease.holds[hold]
                if self._joinable.get(hold.lease.name) in (hold.lease, None):
                    self._new(hold.lease.name)
                hold.lease = self._joinable[hold.lease.name]
                hold.lease.holds[hold] = None

    def mark_inserted(self, lease: SharedLease, inserted: Inserted) -> None:
        """Note that a lease was inserted, and whether its instance is busy."""
        with self._lock:
            lease.inserted, lease.known = inserted, None
            ended, latest = self._latest.get(lease.name, (0.0, None))
            lease.is_busy |= latest == inserted and self._clock.monotonic() - ended < BUSY_SECONDS

    def read_into_row(self, lease: SharedLease) -> int:
        """Note in the row, which is not written by this, what work holds the lease. Return how much that is."""
        now, wall = self._clock.monotonic(), self._clock.now()
        with self._lock:
            holds, row = list(lease.holds), lease.row
            row.broke_off = lease.broke_off
        if holds:
            oldest = holds[0]
            oldest.since = oldest.since or wall - timedelta(seconds=now - oldest.began)
            row.works, row.since, row.ordered = len(holds), oldest.since, oldest.caller
            purposes = dict.fromkeys(hold.caller["for"] for hold in holds if "for" in hold.caller)
            row.purposes = list(purposes)[:MAX_PURPOSES]
        return len(holds)

    def mark_written(self, lease: SharedLease) -> None:
        """Note that the row was written, with the work that broke off."""
        with self._lock:
            lease.broke_off -= lease.row.broke_off
            lease.row.broke_off = 0
            lease.written = self._clock.monotonic()

    def forget(self, lease: SharedLease) -> None:
        """Note that the row is deleted."""
        with self._lock:
            self._kept.discard(lease)

    def kept(self, linger_seconds: float = LINGER_SECONDS) -> list[SharedLease]:
        """End the leases that have had no work for so long, and return all whose rows may exist."""
        with self._lock:
            now = self._clock.monotonic()
            for lease in self._kept:
                if not lease.holds and now - lease.ended >= linger_seconds:
                    self._close(lease)
            self._latest = {name: one for name, one in self._latest.items() if now - one[0] < BUSY_SECONDS}
            return list(self._kept)

    def end_if_none(self, end: Callable[[], None]) -> bool:
        """Call `end` if no lease is kept, before another one can begin. Return whether that was so."""
        with self._lock:
            if not self._kept:
                end()
            return not self._kept

    def _new(self, name: str) -> SharedLease:
        lease = self._joinable[name] = SharedLease(name, Lease(instance_id=name, worker=self._worker_id))
        self._kept.add(lease)
        return lease

    def _close(self, lease: SharedLease) -> None:
        lease.is_over = True
        if self._joinable.get(lease.name) is lease:
            del self._joinable[lease.name]
