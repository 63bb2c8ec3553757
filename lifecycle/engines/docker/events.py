"""What the Docker Engine's events have told about the ends of containers."""

import threading
from collections.abc import Mapping
from typing import Any

from lifecycle.engines.base import HeardEnd
from lifecycle.engines.docker.containers import signal_number, unix_nanoseconds

#: The latest signals and ends of one container that are remembered, and how many containers. An engine repeats its
#: latest 256 events, so the same event may come twice.
MAX_EVENTS = 64
MAX_CONTAINERS = 10_000


class HeardEvents:
    """Remembers the `kill` and `die` events of containers. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By container's id: the time of each event in nanoseconds, its action, and its signal or exit code.
        self._events: dict[str, list[tuple[int, str, int]]] = {}
        #: From when on the next stream is asked for events, as the engine reads it. At first: all that it repeats.
        self.since = "1"

    def hear(self, event: Mapping[str, Any]) -> None:
        """Remember an event, if it says how a container ended."""
        nanoseconds = event["timeNano"]
        self.since = f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
        action, attributes = event["Action"], event["Actor"]["Attributes"]
        if action in ("kill", "stop"):  # Podman tells only a `stop`, and names no signal
            heard = nanoseconds, "kill", signal_number(attributes.get("signal", "TERM"))
        elif action == "die" and "exitCode" in attributes:
            heard = nanoseconds, action, int(attributes["exitCode"])
        else:
            return
        with self._lock:
            events = self._events.pop(event["Actor"]["ID"], [])
            self._events[event["Actor"]["ID"]] = sorted({*events, heard})[-MAX_EVENTS:]
            if len(self._events) > MAX_CONTAINERS:
                del self._events[next(iter(self._events))]

    def end_of(self, incarnation: str) -> HeardEnd | None:
        """Return the first end of the container after the incarnation's start, and the signals up to it."""
        id, _, started = incarnation.partition("@")
        with self._lock:
            events = [event for event in self._events.get(id, ()) if event[0] >= unix_nanoseconds(started)]
        signals: set[int] = set()
        for _, action, value in events:
            if action == "die":
                return HeardEnd(frozenset(signals), value)
            signals.add(value)
        return None
