"""The two clocks. Latencies and timeouts are taken with the monotonic one; the wall clock may jump."""

import time
from datetime import datetime

from django.utils import timezone


class Clock:
    """The system's clocks; tests inject one that jumps."""

    def now(self) -> datetime:
        """Wall time, UTC."""
        return timezone.now()

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def milliseconds(seconds: float) -> int:
    """Return `seconds` in whole milliseconds, rounded down."""
    return int(seconds * 1000)
