"""Wakes for coroutines. In each process one leader wakes an instance, in a thread of its own; the others await it.

asyncio's default executor is not used: 50 waits of 2 s took 18 s in it, because it has 6 threads on 2 processors.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from lifecycle import tracing
from lifecycle.dispatch.in_flight.shared_leases import Leased, SharedLeases
from lifecycle.dispatch.inspections import Inspections
from lifecycle.dispatch.kept_threads import KeptThreads
from lifecycle.dispatch.turns import Turns
from lifecycle.engines.base import Inspection
from lifecycle.models import Instance
from lifecycle.orders import DISPATCH, Order
from lifecycle.transitions.control import why_asleep
from lifecycle.transitions.lifecycle import Lifecycle

T = TypeVar("T")

#: Threads for short work: a row, an inspection, a lease.
SHORT_WORK_THREADS = 16
#: One instance uses at most so many of them, so that callers of one whose inspection hangs do not hold the others up.
THREADS_PER_INSTANCE = 4
#: So many inspections of the latest leases are remembered. An agent that is gone leaves one behind.
MAX_REMEMBERED = 10_000


class Wakes:
    """The wakes and leases of one process's dispatches."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self.work_failures = lifecycle.work_failures
        self._leaders = KeptThreads("wake")
        self._short_work = ThreadPoolExecutor(SHORT_WORK_THREADS, thread_name_prefix="dispatch")
        #: Those of the threads for short work.
        self._connections: set[BaseDatabaseWrapper] = set()
        #: By instance, while its dispatches take leases.
        self._instance_slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        #: By instance: the inspection with which the latest lease was taken.
        self._latest_seen: dict[str, Inspection] = {}
        self._wake_futures: dict[str, Future[None]] = {}
        self._recovering: set[str] = set()
        self._lock = threading.Lock()
        self._inspections = Inspections(lifecycle.engine, lifecycle.clock, self._forget_seen)
        self._turns = Turns(lifecycle.readiness.probe, lifecycle.clock, self._submit)
        self._leases = SharedLeases(
            lifecycle.leases, self._inspections, lifecycle.worker, lifecycle.clock, self._submit
        )

    async def find_ready(self, name: str, order: Order = DISPATCH) -> tuple[Inspection, bool]:
        """Return an inspection of the instance, and whether it had to be woken. A cancelled caller cancels no wake.

        The inspection may be an old one, from the wake or the latest dispatch. So the caller connects, takes a lease,
        and compares the two before it sends anything.

        Raises UnknownInstance, LabelError, StartFailed and EngineUnreachable.
        """
        was_woken = False
        while (seen := self._latest_seen.get(name)) is None:
            row, ready = await self._in_slot(name, lambda: self._look(name))
            if ready:
                return ready, was_woken
            was_woken = True
            await self.wake(name, order, row)
        return self._turns.take(seen), was_woken

    def _look(self, name: str) -> tuple[Instance | None, Inspection | None]:
        """Return the instance's row, and an inspection unless the instance must be woken first."""
        row = Instance.objects.filter(pk=name).first()
        found = self._lifecycle.leases.look_at(row, self._inspections.ask)
        return row, found[1] if found else None

    async def wake(self, name: str, order: Order = DISPATCH, row: Instance | None = None) -> None:
        """Wake the instance if it does not run. Raises the same errors as `find_ready`.

        `row` is its row, if it was read a moment ago.
        """
        self._forget_seen(name)
        self._turns.forget(name)
        with tracing.step("wake", name):
            await asyncio.shield(asyncio.wrap_future(self.join_or_lead(name, order, row)))

    async def take_lease(
        self, name: str, order: Order = DISPATCH, *, is_kept_connection: bool = False
    ) -> Leased | None:
        """Return a lease, which the caller gives back, or None if the instance must be woken first.

        The lease tells of `order`. `is_kept_connection`: the work goes to a connection that the agent has kept. That
        proves that it runs, so an inspection that is still true will do. A caller that is cancelled is left no lease.
        """
        hold = self._leases.begin(name, order)
        leased: Leased | None = None
        try:
            leased = await self._in_slot(name, lambda: self._leases.take(hold, may_recall=is_kept_connection))
        finally:
            if leased is None:
                self._leases.end(hold)
        if leased:
            self._remember(name, leased.seen)
        return leased

    def _remember(self, name: str, seen: Inspection) -> None:
        """Keep an inspection for the next dispatch. If there are too many, forget all: each costs one look."""
        if len(self._latest_seen) >= MAX_REMEMBERED:
            self._latest_seen.clear()
        self._latest_seen[name] = seen

    def _forget_seen(self, name: str) -> None:
        """Look at the instance before the next connection to it, because it has changed and may not run any more."""
        self._latest_seen.pop(name, None)

    async def why_asleep(self, leased: Leased) -> str:
        """Return by whose order a leased instance was put to sleep, or an empty text: "it was disabled by alice"."""
        name = leased.hold.lease.name
        return await self._in_slot(name, lambda: why_asleep(name, leased.run))

    def note_success(self, name: str) -> None:
        """Note that work has succeeded. Forget failed work before it, if there is any. This does not wait."""
        has_failed_here = self.work_failures.note_success(name)
        if has_failed_here or name in self._lifecycle.leases.with_failed_work:
            self._lifecycle.leases.with_failed_work.discard(name)
            self._submit(lambda: Instance.objects.note_succeeded_work(name))

    def give_back(self, leased: Leased) -> None:
        """Give a lease back. This may be called from any thread or coroutine, and does not wait."""
        self._leases.end(leased.hold)

    def shut_down(self) -> None:
        """Wait for the short work that is under way, close its connections, and write what failed."""
        self._leaders.shut_down()
        self._short_work.shutdown()
        self._leases.shut_down()
        for kept in self._connections:
            kept.inc_thread_sharing()  # its thread has ended
            kept.close()
        self.work_failures.shut_down()

    def join_or_lead(self, name: str, order: Order = DISPATCH, row: Instance | None = None) -> Future[None]:
        """Return the wake that is under way in this process, or begin one. It goes on even if no caller waits.

        The event of the start names the caller who began it.
        """
        with self._lock:
            wake_future = self._wake_futures.get(name)
            if wake_future is None:
                wake_future = self._wake_futures[name] = Future()
                wake_future.set_running_or_notify_cancel()  # from now on no waiting caller can cancel it
                leading = (name, order, row, wake_future)
                context = contextvars.copy_context()  # its spans and the lines of its log belong to the request
                try:
                    self._leaders.run(partial(context.run, self._lead, *leading))
                except RuntimeError:  # the system gives no more threads
                    del self._wake_futures[name]
                    raise
            return wake_future

    def _lead(self, name: str, order: Order, row: Instance | None, wake_future: Future[None]) -> None:
        error: BaseException | None = None
        try:
            _close_unusable_connection()
            seen = self._lifecycle.waking.wake(name, order, row)
            if seen:
                self._remember(name, seen)
        except BaseException as raised:
            error = raised
        finally:
            with self._lock:
                del self._wake_futures[name]
        if error:
            wake_future.set_exception(error)
            self._recover_own(name)
        else:
            wake_future.set_result(None)

    def _recover_own(self, name: str) -> None:
        """Settle the claim that an unforeseen error left behind. One thread at a time does it for an instance."""
        with self._lock:
            if name in self._recovering:
                return
            self._recovering.add(name)
        try:
            self._lifecycle.recovering.recover_own_until_settled(name)
        finally:
            with self._lock:
                self._recovering.remove(name)

    async def _in_slot(self, name: str, work: Callable[[], T]) -> T:
        """Return the result of short work. At most THREADS_PER_INSTANCE threads are at work for one instance."""
        slots = self._instance_slots.get(name)
        if slots is None:
            slots = self._instance_slots[name] = asyncio.Semaphore(THREADS_PER_INSTANCE)
        await slots.acquire()
        try:
            under_way = asyncio.wrap_future(self._submit(work))
        except RuntimeError:  # the process ends, or the system gives no more threads
            slots.release()
            raise
        under_way.add_done_callback(lambda _: slots.release())
        return await asyncio.shield(under_way)  # the thread of a caller that is cancelled works on, and keeps its slot

    def _submit(self, work: Callable[[], T]) -> "Future[T]":
        def with_usable_connection() -> T:
            self._keep_connection()
            return work()

        return self._short_work.submit(with_usable_connection)

    def _keep_connection(self) -> None:
        """Keep this thread's connection to the database, unless it does not answer: a new one costs 2 ms."""
        self._connections.add(_close_unusable_connection())


def _close_unusable_connection() -> BaseDatabaseWrapper:
    """Close this thread's connection to the database if it does not answer, and return it."""
    kept = connections[DEFAULT_DB_ALIAS]
    if kept.connection is not None and not kept.is_usable():
        kept.close()
    return kept
