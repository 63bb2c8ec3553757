"""The two clocks. Latencies and timeouts are measured with the monotonic one, because the wall clock may jump."""

import time
from datetime import datetime

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


def milliseconds(seconds: float) -> int:
    """Return `seconds` in whole milliseconds, rounded down."""
    return int(seconds * 1000)
