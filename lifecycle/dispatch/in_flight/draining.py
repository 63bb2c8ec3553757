"""The work in flight in this process, and its end: new work is refused, and what is in flight may end."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from access.problems import ProblemResponse

logger = logging.getLogger(__name__)


class WorkInFlight:
    """Counts the requests for agents, from their headers to the end of their answers. Only the event loop uses it."""

    def __init__(self) -> None:
        #: Whether this process ends, and takes no new work.
        self.is_draining = False
        self.count = 0
        self._has_none = asyncio.Event()
        self._has_none.set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one piece of work inside the block."""
        self.count += 1
        self._has_none.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._has_none.set()

    async def drain(self, seconds: float) -> None:
        """Take no new work from now on, and return when there is none, or after `seconds`."""
        self.is_draining = True
        if self.count and seconds:
            logger.info("Ending when %d pieces of work have ended, or after %g s", self.count, seconds)
        try:
            async with asyncio.timeout(seconds):
                await self._has_none.wait()
        except TimeoutError:
            logger.warning("%d pieces of work had not ended after %g s, and are broken off", self.count, seconds)
        except asyncio.CancelledError:  # by a second signal
            logger.warning("%d pieces of work are broken off", self.count)
            raise


def draining_problem() -> ProblemResponse:
    """Return the answer to new work while this process ends."""
    problem = ProblemResponse(503, "This Dormouse is ending, and takes no new work.", code="draining")
    problem["Connection"] = "close"
    problem["Retry-After"] = "1"
    return problem


#: That of this process.
work_in_flight = WorkInFlight()
