"""The engine's own events, recorded from before a test begins, and whether Dormouse's log agrees with them."""

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from docker import APIClient

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
    """Docker's `start` and `die` of every container, followed live: what it keeps is a ring of 256."""

    def __init__(self, api: APIClient) -> None:
        self._told: list[tuple[str, Told]] = []
        self._stream = api.events(decode=True, filters={"type": "container", "event": ["start", "die"]})
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        for event in self._stream:
            facts = event["Actor"]["Attributes"]
            self._told.append((facts["name"], Told(event["timeNano"] / 1e9, event["Action"], facts)))

    def of(self, name: str) -> list[Told]:
        return [told for of, told in self._told.copy() if of == name]

    def actions(self, name: str) -> list[str]:
        return [told.what for told in self.of(name)]

    def close(self) -> None:
        self._stream.close()


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
