"""Clocks that tests move."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from lifecycle.clock import Clock


class FakeClock(Clock):
    """Stands still but for `go` and `sleep`. Its wall time can be set back on its own, as an operator does."""

    def __init__(self) -> None:
        self.wall = datetime(2026, 11, 23, 18, 55, 30, tzinfo=UTC)
        self.elapsed = 1000.0
        #: Called whenever time has passed.
        self.listeners: list[Callable[[], object]] = []

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        self.go(seconds)

    def go(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.elapsed += seconds
        for listener in self.listeners:
            listener()

    def set_back(self, seconds: float) -> None:
        self.wall -= timedelta(seconds=seconds)
