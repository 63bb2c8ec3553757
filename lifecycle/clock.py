"""The clocks. Latencies and timeouts are measured with the monotonic one, because the wall clock may jump."""

import time
from datetime import UTC, datetime, timedelta

from django.db import connection
from django.utils import timezone

#: If the wall clock and the monotonic one have drifted apart by more, the wall clock was set or the machine slept.
JUMP_SECONDS = 1.0


class Clock:
    """The system's clocks. Tests inject one that they move."""

    def now(self) -> datetime:
        """Return wall time, UTC."""
        return timezone.now()

    def read(self) -> None:
        """Find out what `now` needs. Nothing, for the system's clocks."""

    def monotonic(self) -> float:
        """Return seconds since some moment. They never go back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`."""
        time.sleep(seconds)


class DatabaseClock(Clock):
    """The system's clocks, corrected by the difference to the database's clock.

    The idle clocks are in the database, and several machines may share a PostgreSQL. If their wall clocks differed by
    half an hour, an agent that was just used would seem idle to another machine. SQLite is on this machine.
    """

    def __init__(self) -> None:
        self._ahead: timedelta | None = None
        self._drift = 0.0

    def now(self) -> datetime:
        """Return the database's wall time, UTC. Raises DatabaseError if that is not known yet, or the clock jumped."""
        if self._ahead is None or abs(self._measure_drift() - self._drift) > JUMP_SECONDS:
            self.read()
        return timezone.now() + (self._ahead or timedelta())

    def read(self) -> None:
        """Ask the database for its time. A heartbeat does this every few seconds. Raises DatabaseError."""
        self._drift = self._measure_drift()
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT clock_timestamp()")
                self._ahead = cursor.fetchone()[0] - timezone.now()
        else:
            self._ahead = timedelta()

    def _measure_drift(self) -> float:
        return timezone.now().timestamp() - self.monotonic()


def as_text(moment: datetime) -> str:
    """Return a time as every event and every answer of the API writes it: `2026-11-23T18:55:30.508Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(seconds: float) -> int:
    """Return `seconds` in whole milliseconds, rounded down."""
    return int(seconds * 1000)
