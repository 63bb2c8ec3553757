"""Wakes for coroutines: one leader an instance in each process, in a thread of its own; the others await its result.

Never asyncio's default executor: 50 waits of 2 s took 18 s in it.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from django.db import DatabaseError, close_old_connections, connections

from lifecycle.models import Lease
from lifecycle.transitions import leases
from lifecycle.transitions.lifecycle import Grant, Lifecycle

T = TypeVar("T")

#: Threads for short work: a row, an inspection, a lease.
SHORT_WORK_THREADS = 16
SETTLE_AGAIN_SECONDS = 5


class Waker:
    """`Lifecycle.use` for coroutines."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._short_work = ThreadPoolExecutor(SHORT_WORK_THREADS, thread_name_prefix="dispatch")
        self._runs: dict[str, Future[None]] = {}
        self._settling: set[str] = set()
        self._joining = threading.Lock()

    async def acquire(self, name: str) -> tuple[Grant, bool]:
        """A lease, which the caller gives back; and whether the instance had to be woken for it.

        Raises as `Lifecycle.use`. A caller that is cancelled cancels no wake, and is left no lease.
        """
        woken = False
        while (grant := await self._take(name)) is None:
            woken = True
            await asyncio.shield(asyncio.wrap_future(self.run_of(name)))
        return grant, woken

    def give_back(self, lease: Lease) -> None:
        """From anywhere, and without waiting."""
        self._submit(lambda: self._try_to_give_back(lease))

    def _try_to_give_back(self, lease: Lease) -> None:
        """Where it cannot be done now, it goes on in a daemon thread: a process that ends does not wait for it."""
        try:
            leases.end([lease], self._lifecycle.clock)
        except DatabaseError:
            threading.Thread(target=self._lifecycle.give_back, args=(lease,), name="give back", daemon=True).start()

    def shut_down(self) -> None:
        """Waits for the short work that is under way."""
        self._short_work.shutdown()

    def run_of(self, name: str) -> Future[None]:
        """The run that is going on here, or a new one. Its leader ends it, whoever still waits."""
        with self._joining:
            run = self._runs.get(name)
            if run is None:
                run = self._runs[name] = Future()
                run.set_running_or_notify_cancel()  # nobody who waits can cancel it
                try:
                    threading.Thread(target=self._lead, args=(name, run), name=f"wake {name}", daemon=True).start()
                except RuntimeError:  # no more threads
                    del self._runs[name]
                    raise
            return run

    def _lead(self, name: str, run: Future[None]) -> None:
        error: BaseException | None = None
        try:
            self._lifecycle.wake(name)
        except BaseException as raised:
            error = raised
        finally:
            connections.close_all()
            with self._joining:
                del self._runs[name]
        if error:
            run.set_exception(error)
            self._settle(name)
        else:
            run.set_result(None)

    def _settle(self, name: str) -> None:
        """What an unforeseen error left claimed: this process lives, so nobody else would. One at a time does it."""
        with self._joining:
            if name in self._settling:
                return
            self._settling.add(name)
        try:
            while not self._lifecycle.settle_own(name):
                self._lifecycle.clock.sleep(SETTLE_AGAIN_SECONDS)
        finally:
            with self._joining:
                self._settling.remove(name)
            connections.close_all()

    async def _take(self, name: str) -> Grant | None:
        taken = self._submit(lambda: self._lifecycle.take(name))
        try:
            return await asyncio.wrap_future(taken)
        except asyncio.CancelledError:
            taken.add_done_callback(self._give_back_unwanted)
            raise

    def _give_back_unwanted(self, taken: "Future[Grant | None]") -> None:
        if taken.cancelled() or taken.exception():
            return
        grant = taken.result()
        if grant:
            self.give_back(grant.lease)

    def _submit(self, work: Callable[[], T]) -> "Future[T]":
        def with_fresh_connection() -> T:
            close_old_connections()
            return work()

        return self._short_work.submit(with_fresh_connection)
