"""Work that other apps give to the supervisor, so that `lifecycle` need not know it: pruning the log, for example.

An app registers its jobs in `AppConfig.ready`. Each supervisor of each process runs them, so a job must bear to run
twice.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.db import DatabaseError, connections

logger = logging.getLogger(__name__)

#: A job that failed is tried again after this long, or after its own interval if that is shorter.
RETRY_SECONDS = 60


@dataclass(frozen=True)
class Job:
    """A function that is called every `seconds`, for the first time when the supervisor starts."""

    name: str
    seconds: float
    run: Callable[[], object]


#: The jobs of all apps.
_registered: list[Job] = []


def register(job: Job) -> None:
    """Let every supervisor of this process run the job."""
    _registered.append(job)


class Jobs:
    """The jobs of one supervisor: when each is due, in a thread of its own, never twice at once."""

    def __init__(self, jobs: list[Job] | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: When each job is due. One that is running is not in it.
        self._due = dict.fromkeys(_registered if jobs is None else jobs, now())
        #: The jobs that wait for the database. That is said once for each series of failures.
        self._waiting: set[Job] = set()

    def run_due(self) -> None:
        """Start a thread for each job that is due."""
        for job in [job for job, due in self._due.items() if due <= self._now()]:
            del self._due[job]
            threading.Thread(target=self._run, args=(job,), name=f"job {job.name}", daemon=True).start()

    def _run(self, job: Job) -> None:
        pause_seconds = job.seconds
        try:
            job.run()
            self._waiting.discard(job)
        except DatabaseError as error:
            pause_seconds = min(RETRY_SECONDS, job.seconds)
            if job not in self._waiting:
                self._waiting.add(job)
                logger.warning("The job %r waits, because the database cannot be used: %s", job.name, error)
        except Exception:
            pause_seconds = min(RETRY_SECONDS, job.seconds)
            logger.exception("The job %r failed; it is tried again in %d s", job.name, pause_seconds)
        finally:
            connections.close_all()
            self._due[job] = self._now() + pause_seconds
