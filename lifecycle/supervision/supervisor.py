"""The loop that recovers, reconciles and stops the idle: a thread of the web process, or `manage.py supervise`."""

import logging
import threading
import time
from collections.abc import Callable

from django.db import DatabaseError, connections
from tenacity import RetryCallState, Retrying, retry_if_exception_type, sleep_using_event, wait_fixed
from tenacity.stop import stop_when_event_set

from lifecycle.assembly import lifecycle
from lifecycle.exceptions import EngineError, Neighbour
from lifecycle.supervision.jobs import Jobs
from lifecycle.supervision.reconciler import Reconciler
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.transitions.retries import log_failed_try

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1
#: The shortest pause between two sweeps, however much happens.
PAUSE_SECONDS = 0.1
#: Stops and recoveries at a time. What is left over waits for the next sweep.
MAX_TRANSITIONS = 16


class LatestSweep:
    """Remembers when this process has swept, for health checks and metrics."""

    def __init__(self) -> None:
        self._at: float | None = None

    def note(self) -> None:
        """Note that a sweep has ended, or that this process begins to supervise."""
        self._at = time.monotonic()

    def age_seconds(self) -> float | None:
        """Return the seconds since the latest sweep. None: this process does not supervise."""
        return None if self._at is None else time.monotonic() - self._at


latest_sweep = LatestSweep()


class Supervisor:
    """Sweeps once a second. Any number of supervisors may run, in any number of processes."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._reconciler = Reconciler(lifecycle)
        self._slots = threading.BoundedSemaphore(MAX_TRANSITIONS)
        self._engine_event = threading.Event()
        self._jobs = Jobs()
        self._trouble = ""

    def run(self, ended: threading.Event) -> None:
        """Sweep until `ended`. What fails is logged and tried again in the next sweep."""
        threading.Thread(target=self._watch_engine, args=(ended,), name="engine-events", daemon=True).start()
        while True:
            try:
                self._jobs.run_due()
                self.sweep()
                latest_sweep.note()
            except DatabaseError as error:
                self._log_once(f"The database cannot be used: {error}")
                connections.close_all()
            except Exception as error:
                logger.exception("A sweep failed")
                self._note_failed_sweep(error)
            self._engine_event.wait(SWEEP_SECONDS)
            if ended.wait(PAUSE_SECONDS):
                return
            self._engine_event.clear()

    def sweep(self) -> None:
        """Recover first, because that needs the engine less than the rest; then reconcile, then stop the idle.

        If another installation manages the instances, touch none of them.
        """
        if self._has_neighbour():
            return
        recovering, stopping = self._lifecycle.recovering, self._lifecycle.stopping
        for claim in recovering.find_abandoned():
            self._run_in_thread(lambda claim=claim: recovering.recover(claim))  # type: ignore[misc]
        recovering.end_leases_of_the_dead()
        self._lifecycle.work_failures.tell_due()
        try:
            self._reconciler.reconcile()
        except EngineError as error:
            self._log_once(str(error))
            return
        self._log_once("")
        if self._lifecycle.worker.trouble:  # no claim could be written; a heartbeat tells when that is over
            return
        for row in stopping.find_idle():
            self._run_in_thread(lambda row=row: stopping.stop_idle(row))  # type: ignore[misc]
        for row in stopping.find_disabled():
            self._run_in_thread(lambda row=row: stopping.stop_disabled(row))  # type: ignore[misc]

    def _has_neighbour(self) -> bool:
        neighbours = self._lifecycle.neighbours
        try:
            neighbours.look_if_due()
        except Neighbour as neighbour:
            self._reconciler.note_neighbour(neighbour)
            return True
        finally:
            neighbours.look_for_refused()
        return False

    def _note_failed_sweep(self, error: Exception) -> None:
        try:
            self._reconciler.note_failed_sweep(error)
        except DatabaseError as trouble:
            logger.warning("The page cannot say that a sweep failed: %s", trouble)

    def _watch_engine(self, ended: threading.Event) -> None:
        """Follow the engine's events, so that a change is seen before the next sweep, and no short life is missed."""
        while not ended.is_set():
            try:
                changes = self._lifecycle.engine.watch_changes()
                if changes is None:
                    return
                self._reconciler.mark_all_ready_for_inspection()
                for name in changes:
                    if ended.is_set():
                        return
                    self._reconciler.mark_for_inspection(name)
                    self._engine_event.set()
            except EngineError as error:  # a sweep reports it
                logger.debug("%s", error)
            except Exception:
                logger.exception("The engine's events could not be read; trying again")
            ended.wait(SWEEP_SECONDS)

    def _run_in_thread(self, transition: Callable[[], object]) -> None:
        """Run the transition in a thread of its own, unless as many as allowed are running."""
        if not self._slots.acquire(blocking=False):
            return

        def run() -> None:
            try:
                log_and_retry_later(transition)
            finally:
                connections.close_all()
                self._slots.release()

        try:
            threading.Thread(target=run, name="transition", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            self._slots.release()
            raise

    def _log_once(self, trouble: str) -> None:
        """Log a trouble when it begins and when it is over, and not once a second."""
        if trouble != self._trouble:
            logger.warning("%s", trouble) if trouble else logger.info("Resolved: %s", self._trouble)
        self._trouble = trouble


def log_and_retry_later(transition: Callable[[], object]) -> None:
    """Run a transition. If it fails, log why; the next sweep tries it again."""
    try:
        transition()
    except (EngineError, Neighbour) as error:
        logger.warning("%s", error)
    except DatabaseError as error:
        logger.warning("A transition failed, because the database cannot be used: %s. A later sweep tries it.", error)
    except Exception:
        logger.exception("A transition failed; the next sweep tries it again")


def start_embedded() -> None:
    """Start supervising in a daemon thread of this process. config.asgi calls this when it is imported."""
    threading.Thread(target=supervise, args=("web", threading.Event()), name="supervisor", daemon=True).start()


def supervise(kind: str, ended: threading.Event) -> None:
    """Supervise until `ended`, in a process of `kind`. Wait for a database that is not up or not migrated yet."""
    log = log_failed_try(logger, "The supervisor waits for the database, and tries again every second: %s")
    logged = set()

    def log_and_disconnect(state: RetryCallState) -> None:
        error = str(state.outcome and state.outcome.exception())
        if error not in logged:  # not a line a second
            log(state)
        logged.add(error)
        connections.close_all()

    retrying = Retrying(
        retry=retry_if_exception_type(DatabaseError),
        wait=wait_fixed(SWEEP_SECONDS),
        sleep=sleep_using_event(ended),
        stop=stop_when_event_set(ended),
        before_sleep=log_and_disconnect,
        retry_error_callback=lambda state: None,
    )
    supervised = retrying(lifecycle, kind)
    if supervised:
        latest_sweep.note()
        Supervisor(supervised).run(ended)
        supervised.worker.end()
