"""Threads for wakes: any number, of which a few are kept for a while, with their connections to the database.

A new thread with a new connection costs 1.5 ms. A ThreadPoolExecutor keeps all of its threads for ever, and the process
cannot end before them.
"""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from django.db import connections

#: So many threads wait for more work, for so long.
MAX_WAITING, WAIT_SECONDS = 4, 10

#: None: the thread ends.
_Work = Callable[[], object] | None


class KeptThreads:
    """Runs each piece of work in a thread that does nothing else. The end of the process waits for none of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        #: One for each thread that waits.
        self._waiting: list[SimpleQueue[_Work]] = []
        self._lock = threading.Lock()
        self._is_ending = False

    def run(self, work: Callable[[], object]) -> None:
        """Run the work, which raises nothing. Raises RuntimeError if the system gives no more threads."""
        with self._lock:
            waiting = self._waiting.pop() if self._waiting else None
        if waiting:
            waiting.put(work)
        else:
            threading.Thread(target=self._work_on, args=(work,), name=self._name, daemon=True).start()

    def shut_down(self) -> None:
        """Let each thread end after its work, and close its connections."""
        with self._lock:
            self._is_ending = True
            while self._waiting:
                self._waiting.pop().put(None)

    def _work_on(self, work: _Work) -> None:
        queue: SimpleQueue[_Work] = SimpleQueue()
        try:
            while work:
                work()
                work = self._wait(queue)
        finally:
            connections.close_all()

    def _wait(self, queue: "SimpleQueue[_Work]") -> _Work:
        with self._lock:
            if self._is_ending or len(self._waiting) >= MAX_WAITING:
                return None
            self._waiting.append(queue)
        try:
            return queue.get(timeout=WAIT_SECONDS)
        except Empty:
            with self._lock:
                if queue in self._waiting:
                    self._waiting.remove(queue)
                    return None
        return queue.get()  # it came as the wait ended
