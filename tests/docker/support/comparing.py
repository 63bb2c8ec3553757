"""Compares the engine's own events with Dormouse's log one by one, although people did things at the same time."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from events.models import EventLog
from tests.docker.support.deeds import ENDS, RENAMES, STARTS, Deeds
from tests.docker.support.engine_log import Told

#: How long after something happened in the engine Dormouse may tell it. What a dead process left is told late.
LATE_SECONDS = {"lazy_started": 10, "lazy_start_failed": 75, "lazy_stopped": 30, "exited": 30}
LATE_RECOVERED_SECONDS = 240
#: The clocks of the two logs may differ by this at one moment.
AHEAD_SECONDS = 1
#: A supervisor has seen after this that a person started one. What ends before was never ready, and is not told.
SEEN_SECONDS = 20
#: So much of what happened before and after a difference is shown.
STORY_SECONDS = 20
#: The names that a container may have for a moment: `-away` after it, or what compose puts before it.
TEMPORARY = re.compile(r"^(?:[0-9a-f]{12}_)?(.*?)(?:-away)?$")


@dataclass(frozen=True, eq=False)
class Entry:
    """One entry of one of the two logs, with the name of the instance."""

    name: str
    told: Told

    def __str__(self) -> str:
        return f"{self.name} {self.told}"

    @property
    def since(self) -> float:
        """When what an entry of Dormouse's log tells may have begun."""
        data, type = self.told.data, self.told.what
        is_late = data.get("recovered") or data.get("unobserved")
        late = LATE_RECOVERED_SECONDS if is_late else LATE_SECONDS[type]
        return self.told.at - late - data.get("latency_ms", 0) / 1000


class Comparison:
    """Both logs, and what people did meanwhile."""

    def __init__(self, deeds: Deeds, engine: Sequence[tuple[str, Told]]) -> None:
        self._deeds = deeds
        self._engine = [Entry(TEMPORARY.sub(r"\1", name), told) for name, told in engine]
        rows = EventLog.objects.filter(type__startswith="container.").order_by("id")
        self._dormouse = [
            Entry(
                TEMPORARY.sub(r"\1", row.instance or ""),
                Told(row.at.timestamp(), row.type.removeprefix("container."), row.data),
            )
            for row in rows
        ]

    def differences(self) -> list[str]:
        """Return what only one of the two logs knows, although the other one must know it, too."""
        starts, ends = _of(self._engine, "start", "unpause"), _of(self._engine, "die", "pause")
        begun, over = _of(self._dormouse, "lazy_started"), _of(self._dormouse, "lazy_stopped", "exited")
        failed = _of(self._dormouse, "lazy_start_failed")
        told_alone = unmatched(begun, starts, self._tells) + unmatched(over, ends, self._tells)
        untold = unmatched([one for one in starts if self._must_start_be_told(one)], begun + failed, self._is_told_by)
        untold += unmatched([one for one in ends if self._must_end_be_told(one)], over + failed, self._is_told_by)
        alone = [f"only Dormouse tells: {self._story(one)}" for one in told_alone if not self._is_uncertain(one)]
        return alone + [f"only the engine tells: {self._story(one)}" for one in untold]

    def _story(self, one: Entry) -> str:
        """Return an entry with what both logs and the people tell of its name around it, for a person."""
        began, ended = one.told.at - STORY_SECONDS, one.told.at + STORY_SECONDS
        near = [(deed.began, f"person: {deed}") for deed in self._deeds.touching(one.name, began, ended)]
        for by, entries in [("engine", self._engine), ("Dormouse", self._dormouse)]:
            near += [
                (entry.told.at, f"{by}: {entry} {entry.told.data}")
                for entry in entries
                if entry.name == one.name and began < entry.told.at < ended
            ]
        return "\n    ".join([str(one), *(line for _, line in sorted(near))])

    def _tells(self, told: Entry, happened: Entry) -> bool:
        """Return whether an entry of Dormouse's log may tell what happened in the engine."""
        if told.told.what == "exited" and happened.told.what != "die":
            return False
        is_in_time = told.since <= happened.told.at <= told.told.at + AHEAD_SECONDS
        return is_in_time and (told.name == happened.name or happened.name in self._names_of(told))

    def _is_told_by(self, happened: Entry, told: Entry) -> bool:
        return self._tells(told, happened)

    def _names_of(self, told: Entry) -> set[str]:
        """Return the names that the container of an entry may have had, because people swapped names."""
        near = self._deeds.touching(told.name, told.since, told.told.at)
        return {name for deed in near if deed.what in RENAMES for name in deed.names}

    def _is_uncertain(self, told: Entry) -> bool:
        """Return whether the engine may have nothing to tell: a name was another's, or its events were lost."""
        near = {deed.what for deed in self._deeds.touching(told.name, told.since, told.told.at)}
        unheard = {"restart the engine"} | (RENAMES if told.told.what in ("lazy_stopped", "exited") else set())
        return bool(near & unheard)

    def _must_start_be_told(self, one: Entry) -> bool:
        # If a person ends a paused one, the engine resumes it for that, and tells the resume.
        return not self._is_by_person(one, STARTS | ENDS if one.told.what == "unpause" else STARTS)

    def _must_end_be_told(self, one: Entry) -> bool:
        before = [other for other in self._engine if other.name == one.name and other.told.at < one.told.at]
        if self._is_by_person(one, ENDS) or not before or before[-1].told.what not in ("start", "unpause"):
            return False
        was_seen = one.told.at - before[-1].told.at > SEEN_SECONDS
        return was_seen or not self._is_by_person(before[-1], STARTS)

    def _is_by_person(self, one: Entry, deeds: set[str]) -> bool:
        return any(deed.what in deeds for deed in self._deeds.touching(one.name, one.told.at, one.told.at))


def unmatched(
    needing: Sequence[Entry], others: Sequence[Entry], is_same: Callable[[Entry, Entry], bool]
) -> list[Entry]:
    """Return the entries that find no other one of their own, in the best matching that there is."""
    possible = [[place for place, other in enumerate(others) if is_same(one, other)] for one in needing]
    taken: dict[int, int] = {}

    def find_one(number: int, tried: set[int]) -> bool:
        for place in possible[number]:
            if place not in tried:
                tried.add(place)
                if place not in taken or find_one(taken[place], tried):
                    taken[place] = number
                    return True
        return False

    return [one for number, one in enumerate(needing) if not find_one(number, set())]


def _of(entries: Sequence[Entry], *what: str) -> list[Entry]:
    return [one for one in entries if one.told.what in what]
