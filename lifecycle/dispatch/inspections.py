"""What the engine has said of instances, remembered until its event stream tells of a change.

An inspection costs 1.5 ms of a processor. While the stream is connected, and for at most REMEMBER_SECONDS, the latest
one is still true. Work that goes to a new connection is inspected anew (docs/decisions/0053-shared-leases.md).

While a swarm has no leader, it starts, stops and moves no task, so the latest inspection is still true, too.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from lifecycle.clock import Clock
from lifecycle.engines.base import Engine, Inspection
from lifecycle.exceptions import EngineError, EngineLeaderless, Missing

logger = logging.getLogger(__name__)

#: How long an inspection is remembered at most, because a stream whose other end was lost reports no change.
REMEMBER_SECONDS = 5
#: How long it takes until a stream that has ended is opened again.
RECONNECT_SECONDS = 1


@dataclass(frozen=True)
class _Remembered:
    seen: Inspection
    #: The monotonic time before the engine was asked.
    asked: float


class Inspections:
    """Inspects instances, and remembers that while the engine's events can be heard. Any thread may call it."""

    def __init__(self, engine: Engine, clock: Clock, on_change: Callable[[str], object] = lambda name: None) -> None:
        """Call `on_change` with the name of each instance of which an event tells, from the thread that hears it."""
        self._engine = engine
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.Lock()
        self._remembered: dict[str, _Remembered] = {}
        #: The latest inspection of each instance, however old.
        self._latest: dict[str, Inspection] = {}
        #: Until when the engine counts as leaderless without being asked, in monotonic seconds.
        self._leaderless_until = 0.0
        #: Counts the events, and the beginnings and ends of streams. An answer is remembered only if none of them came
        #: after the question.
        self._changes = 0
        self._is_connected = False
        self._is_watching = False

    def recall(self, name: str) -> Inspection | None:
        """Return the latest inspection if it is still true, without asking the engine; else None."""
        remembered = self._remembered.get(name)
        is_young = remembered is not None and self._clock.monotonic() - remembered.asked < REMEMBER_SECONDS
        return remembered.seen if remembered and is_young else None

    def ask(self, name: str) -> Inspection:
        """Ask the engine. If it has no leader, return its latest answer. Raises Missing and EngineError."""
        self._watch_in_thread()
        changes, asked = self._changes, self._clock.monotonic()
        latest = self._latest.get(name)
        if latest and asked < self._leaderless_until:
            return latest
        try:
            seen = self._engine.inspect(name)
        except EngineLeaderless:
            self._leaderless_until = self._clock.monotonic() + REMEMBER_SECONDS
            if latest is None:
                raise
            return latest
        except Missing:
            self._latest.pop(name, None)
            raise
        self._latest[name] = seen
        with self._lock:
            if self._is_connected and self._changes == changes:
                self._remembered[name] = _Remembered(seen, asked)
        return seen

    def recall_or_ask(self, name: str) -> Inspection:
        """Return what is remembered, or ask. Raises Missing and EngineError."""
        return self.recall(name) or self.ask(name)

    def _watch_in_thread(self) -> None:
        """Begin to follow the engine's events, at the first call."""
        with self._lock:
            if self._is_watching:
                return
            threading.Thread(target=self._watch, name="inspections", daemon=True).start()
            self._is_watching = True

    def _watch(self) -> None:
        while True:
            try:
                changes = self._engine.watch_changes()
                if changes is None:  # it has no events
                    return
                self._forget_all(is_connected=True)
                for name in changes:
                    self._forget(name)
            except EngineError as error:  # the supervisor logs it
                logger.debug("%s", error)
            except Exception:
                logger.exception("The engine's events could not be read; trying again")
            finally:
                self._forget_all(is_connected=False)
            self._clock.sleep(RECONNECT_SECONDS)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._changes += 1
            self._remembered.pop(name, None)
        self._on_change(name)

    def _forget_all(self, *, is_connected: bool) -> None:
        with self._lock:
            self._changes += 1
            self._is_connected = is_connected
            self._remembered.clear()
