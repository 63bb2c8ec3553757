"""The two clocks. Latencies and timeouts are measured with the monotonic one, because the wall clock may jump."""

import time
from datetime import UTC, datetime

from django.utils import timezone


class Clock:
    """The system's clocks. Tests inject one that they move."""

    def now(self) -> datetime:
        """Return wall time, UTC."""
        return timezone.now()

    def monotonic(self) -> float:
        """Return seconds since some moment. They never go back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`."""
        time.sleep(seconds)


def as_text(moment: datetime) -> str:
    """Return a time as every event and every answer of the API writes it: `2026-11-23T18:55:30.508Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(seconds: float) -> int:
    """Return `seconds` in whole milliseconds, rounded down."""
    return int(seconds * 1000)
