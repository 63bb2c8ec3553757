"""The engine's own events, recorded from before a test begins, and whether Dormouse's log agrees with them."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from docker import APIClient
from docker.errors import DockerException, NotFound
from requests import RequestException
from urllib3.exceptions import HTTPError

from events.models import EventLog

#: The long form of a test that repeats something: DORMOUSE_LONG=1.
LONG = bool(os.environ.get("DORMOUSE_LONG"))
#: An engine may answer a stop a moment before it tells of the death.
TELLS_LATE_SECONDS = 0.05


@dataclass(frozen=True)
class Told:
    """An entry of one of the two logs: `start` and `die` are the engine's, the others Dormouse's."""

    at: float
    what: str
    data: dict[str, Any]

    def __str__(self) -> str:
        facts = {key: self.data[key] for key in ("run", "cause", "recovered", "exitCode") if key in self.data}
        return f"{self.at:.3f} {self.what} {facts}"


class EngineLog:
    """Docker's events of every container since it was made, by default `start` and `die`.

    They are followed live, because the engine keeps only the latest 256 events, and none over its restart.
    """

    def __init__(
        self,
        api: APIClient,
        actions: tuple[str, ...] = ("start", "die"),
        *,
        is_up: Callable[[], bool] = lambda: True,
    ) -> None:
        """Begin to follow the events of `actions`. `is_up`: whether an engine that was restarted listens again."""
        self._api = api
        self._is_up = is_up
        self._actions = actions
        self._since = f"{time.time():.9f}"
        self._told: dict[tuple[str, float, str], Told] = {}
        self._stream = self._ask()
        self._is_closed = False
        threading.Thread(target=self._follow, daemon=True).start()

    def of(self, name: str) -> list[Told]:
        """Return the events of one container, in the order of time, up to now.

        The stream may be behind: after 22 of 60 starts it had not delivered the event when the call had answered.
        """
        with contextlib.suppress(NotFound):
            self._api.inspect_container(name)  # waits for the container's lock, which is held until its death is told
        self._read(self._ask(until=f"{time.time():.9f}"))
        return sorted((told for (of, _, _), told in self._told.copy().items() if of == name), key=lambda told: told.at)

    def all(self) -> list[tuple[str, Told]]:
        """Return all events up to now with the name that the container had, in the order of time."""
        self._read(self._ask(until=f"{time.time():.9f}"))
        return sorted(((of, told) for (of, _, _), told in self._told.copy().items()), key=lambda one: one[1].at)

    def actions(self, name: str) -> list[str]:
        return [told.what for told in self.of(name)]

    def close(self) -> None:
        self._is_closed = True
        self._close_stream()

    def _follow(self) -> None:
        """Follow the events, and begin again if the engine ends."""
        while not self._is_closed:
            with contextlib.suppress(RequestException, HTTPError, DockerException, ValueError):
                self._read(self._stream)
            self._close_stream()
            time.sleep(0.1)
            with contextlib.suppress(RequestException, DockerException):
                if self._is_up() and not self._is_closed:  # docker-py leaves a socket open if it cannot connect
                    self._stream = self._ask()

    def _close_stream(self) -> None:
        with contextlib.suppress(OSError, HTTPError):
            self._stream.close()

    def _ask(self, **until: Any) -> Any:
        filters = {"type": "container", "event": list(self._actions)}
        return self._api.events(decode=True, filters=filters, **{"since": self._since} | until)

    def _read(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            facts = event["Actor"]["Attributes"]
            told = Told(event["timeNano"] / 1e9, event["Action"], facts)
            self._told[facts["name"], told.at, told.what] = told


def told_by_dormouse(name: str) -> list[Told]:
    rows = EventLog.objects.filter(instance=name).order_by("id")
    return [Told(row.at.timestamp(), row.type.removeprefix("container."), row.data) for row in rows]


#: What may follow what: every start of the engine has one outcome, every death belongs to a stop or a failure, and a
#: failure without a start is an interrupted one. By state: what is told, and the state after it.
WAYS = {
    "asleep": {"start": "running", "lazy_start_failed": "asleep"},
    "running": {"lazy_started": "ready", "die": "died"},
    "died": {"lazy_start_failed": "asleep"},
    "ready": {"die": "stopped"},
    "stopped": {"lazy_stopped": "asleep"},
}


def agree(engine: Iterable[Told], dormouse: Iterable[Told]) -> str:
    """Walk both logs in the order of time, and return the state at their end. Fail if they disagree."""
    told = sorted([*engine, *dormouse], key=lambda one: one.at - TELLS_LATE_SECONDS * (one.what == "die"))
    state, run = "asleep", 0
    for number, one in enumerate(told):
        story = "\n".join(map(str, told[max(0, number - 8) : number + 3]))
        assert one.what in WAYS[state], f"{one.what} while {state}:\n{story}"
        if one.what == "lazy_start_failed" and state == "asleep":
            assert one.data["cause"] == "interrupted", f"a failure of nothing:\n{story}"
        if one.what in ("lazy_started", "lazy_start_failed"):
            assert one.data["run"] == run + 1, f"run {run + 1} has no outcome, or two:\n{story}"
            run = one.data["run"]
        if one.what == "lazy_stopped":
            assert one.data["run"] == run, f"it is not run {run} that stopped:\n{story}"
        state = WAYS[state][one.what]
    return state
