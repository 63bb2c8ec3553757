"""The loop that recovers, observes and stops the idle: a thread of the web process, or `manage.py supervise`."""

import logging
import threading
from collections.abc import Callable

from django.db import DatabaseError, connections

from lifecycle.exceptions import EngineUnreachable
from lifecycle.supervision.observation import Observer
from lifecycle.transitions.lifecycle import Lifecycle, quietly

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1
#: Between two sweeps at least, however much happens.
PAUSE_SECONDS = 0.1
#: Stops and recoveries at a time; what is left over waits for the next sweep.
THREADS = 16


class Supervisor:
    """Sweeps once a second. Any number of them may run, in any number of processes."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._observer = Observer(lifecycle)
        self._slots = threading.BoundedSemaphore(THREADS)
        self._news = threading.Event()
        self._said = ""

    def run(self, ended: threading.Event) -> None:
        """Sweeps until `ended`. What fails is logged and tried again, for nobody else would do it."""
        threading.Thread(target=self._listen, args=(ended,), name="engine-events", daemon=True).start()
        while True:
            try:
                self.sweep()
            except DatabaseError as error:
                self._say(f"The database does not answer: {error}")
                connections.close_all()
            except Exception:
                logger.exception("A sweep failed")
            self._news.wait(SWEEP_SECONDS)
            if ended.wait(PAUSE_SECONDS):
                return
            self._news.clear()

    def _listen(self, ended: threading.Event) -> None:
        """To what the engine says happens, so that a sweep need not wait, and no short life is missed."""
        while not ended.is_set():
            try:
                changes = self._lifecycle.engine.changes()
                if changes is None:
                    return
                self._observer.hear_again()
                for name in changes:
                    if ended.is_set():
                        return
                    self._observer.hear_of(name)
                    self._news.set()
            except EngineUnreachable as error:  # which a sweep reports, too
                logger.debug("%s", error)
            except Exception:
                logger.exception("The engine's events could not be read; they are listened to again")
            ended.wait(SWEEP_SECONDS)

    def sweep(self) -> None:
        """What dead workers left behind first: it needs the engine less than the rest."""
        self._lifecycle.recover(self._in_thread)
        try:
            self._observer.look()
        except EngineUnreachable as error:
            self._say(str(error))
        else:
            self._say("")
            self._lifecycle.stop_idle(self._in_thread)

    def _in_thread(self, work: Callable[[], object]) -> None:
        if not self._slots.acquire(blocking=False):
            return

        def run() -> None:
            try:
                quietly(work)
            except Exception:
                logger.exception("A transition failed; it is tried again")
            finally:
                connections.close_all()
                self._slots.release()

        try:
            threading.Thread(target=run, name="transition", daemon=True).start()
        except RuntimeError:  # no more threads
            self._slots.release()
            raise

    def _say(self, trouble: str) -> None:
        """Once for each trouble, not once a second."""
        if trouble != self._said:
            logger.warning("%s", trouble) if trouble else logger.info("No longer so: %s", self._said)
        self._said = trouble


def start_embedded() -> None:
    """In a daemon thread of this process; called when config.asgi is imported."""
    threading.Thread(target=supervise, args=("web", threading.Event()), name="supervisor", daemon=True).start()


def supervise(kind: str, ended: threading.Event) -> None:
    """Until `ended`, in a process of `kind`. Waits for the database, which may come up later, or be migrated later."""
    from lifecycle.assembly import lifecycle

    while not ended.is_set():
        try:
            supervised = lifecycle(kind)
        except DatabaseError as error:  # not migrated yet, or not up yet
            logger.warning("The supervisor waits for the database: %s", error)
            connections.close_all()
            ended.wait(SWEEP_SECONDS)
        else:
            Supervisor(supervised).run(ended)
            supervised.worker.end()
