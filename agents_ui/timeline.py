"""The activity timeline: which events a reader asked for, and how each of them is displayed as a row."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import groupby
from typing import Any, Self
from urllib.parse import urlencode

from django.http import QueryDict
from django.utils import timezone

from agents_ui.event_context import logs_command
from events import event_types
from events.log import replace_unstorable
from events.models import EventLog, EventLogQuerySet, LogFloor

PAGE_ROWS = 50
MAX_NEW_ROWS = 100
#: The longest text to search for, in characters.
MAX_TEXT = 200


@dataclass(frozen=True)
class Filter:
    """The reader's choice of events. An empty part does not filter."""

    instances: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    failures: bool = False
    text: str = ""

    @classmethod
    def from_query(cls, query: QueryDict) -> Self:
        """Return the filter that the query of an address names."""

        def values(name: str) -> tuple[str, ...]:
            return tuple(dict.fromkeys(replace_unstorable(value) for value in query.getlist(name) if value))

        text = replace_unstorable(query.get("q", "").strip())[:MAX_TEXT]
        return cls(values("instance"), values("type"), bool(query.get("failures")), text)

    def events(self) -> EventLogQuerySet:
        """Return the events that match."""
        found = EventLog.objects.matching(self.instances, self.types)
        if self.failures:
            found = found.filter(event_types.FAILURES)
        return found.containing(self.text) if self.text else found

    def query(self, **more: Any) -> str:
        """Return the filter as the query of an address, with `?`; or an empty text if nothing is chosen."""
        pairs = [("instance", name) for name in self.instances] + [("type", type) for type in self.types]
        pairs += [("failures", "1")] * self.failures + [("q", self.text)] * bool(self.text)
        pairs += [(name, str(value)) for name, value in more.items()]
        return "?" + urlencode(pairs) if pairs else ""

    @property
    def chips(self) -> list[tuple[str, Self]]:
        """Each part of the choice in words, and the filter without it."""
        found = [
            (name, replace(self, instances=tuple(other for other in self.instances if other != name)))
            for name in self.instances
        ]
        found += [
            (
                event_types.display_of(type).title,
                replace(self, types=tuple(other for other in self.types if other != type)),
            )
            for type in self.types
        ]
        found += [("Failures only", replace(self, failures=False))] * self.failures
        return found + [(f"“{self.text}”", replace(self, text=""))] * bool(self.text)

    def __str__(self) -> str:
        return ", ".join(words for words, _ in self.chips)

    def __bool__(self) -> bool:
        return bool(self.instances or self.types or self.failures or self.text)


@dataclass(frozen=True)
class Row:
    """One event as people see it."""

    event: EventLog

    @property
    def display(self) -> event_types.EventDisplay:
        """The title and icon of its type."""
        return event_types.display_of(self.event.type)

    @property
    def icon(self) -> str:
        """The name of its icon."""
        return event_types.icon_of(self.event)

    @property
    def is_failure(self) -> bool:
        """True if it tells of a failure."""
        return event_types.is_failure(self.event)

    @property
    def predicate(self) -> str | None:
        """The part of its sentence after the instance's name. None: its type has none."""
        return event_types.predicate_of(self.event)

    @property
    def sentence(self) -> str:
        """The event as a sentence."""
        return event_types.sentence_of(self.event)

    @property
    def cause(self) -> str:
        """The cause of a failure, in words."""
        cause = self.event.data.get("cause")
        if self.event.type == "container.exited" and cause == "exited":
            return ""  # the sentence says so
        return event_types.CAUSES.get(str(cause), str(cause)) if cause else ""

    @property
    def error(self) -> str:
        """The error of a failure."""
        return str(self.event.data.get("error") or "none was given")

    @property
    def advice(self) -> str:
        """The advice on a failure, if its error does not say what to do. Else an empty text."""
        return event_types.advice_on(self.event)

    @property
    def logs_command(self) -> str:
        """The command that shows the container's output around the event, or an empty text."""
        return logs_command(self.event)

    @property
    def output(self) -> str:
        """The last lines of output that were kept with a failure."""
        return str(self.event.data.get("log_tail") or "")

    @property
    def last_line(self) -> str:
        """The last line of output that is not empty."""
        return next((line.strip() for line in reversed(self.output.splitlines()) if line.strip()), "")

    @property
    def json(self) -> str:
        """The data as indented JSON."""
        return json.dumps(self.event.data, indent=2, ensure_ascii=False)

    @property
    def day(self) -> date:
        """The day on which it happened, in the reader's time zone."""
        return timezone.localdate(self.event.at)


@dataclass(frozen=True)
class Day:
    """Neighbouring rows of one day."""

    date: date
    rows: Sequence[Row]


@dataclass(frozen=True)
class Activity:
    """Some events, newest first."""

    rows: Sequence[Row]
    #: Up to which event the log was read.
    cursor: int
    #: Whether more events match.
    more: bool
    #: Whether events are missing that were kept once: below these rows, or between them and the reader's cursor.
    pruned: bool
    #: Whether newer events match, on a page of older ones.
    newer: bool = False

    @property
    def days(self) -> list[Day]:
        """The rows, grouped by day."""
        return [Day(day, list(rows)) for day, rows in groupby(self.rows, key=lambda row: row.day)]


def newest(chosen: Filter) -> Activity:
    """Return the newest page. The end of the log is read first, so that later events are found after that cursor."""
    _, cursor = EventLog.objects.bounds()
    return _page(chosen.events().before(cursor + 1), cursor)


def older_than(chosen: Filter, before: int) -> Activity:
    """Return the page below the event `before`."""
    page = _page(chosen.events().before(before), before)
    return replace(page, newer=chosen.events().after(before - 1).exists())


def next_newer(chosen: Filter, after: int) -> Activity:
    """Return the page above the event `after`: the oldest of the newer events."""
    events = list(chosen.events().after(after)[: PAGE_ROWS + 1])
    rows = [Row(event) for event in reversed(events[:PAGE_ROWS])]
    more = chosen.events().before(after + 1).exists()
    return Activity(rows, after, more, not more and LogFloor.now() > 0, newer=len(events) > PAGE_ROWS)


def cursor_at(moment: datetime) -> int:
    """Return the cursor from which the events at and before `moment` are older."""
    return EventLog.objects.floor_before(moment, timezone.now()) + 1


def newer_than(chosen: Filter, after: int) -> Activity:
    """Return the first events after the cursor `after`. If there are more, the reader asks again and misses none.

    `pruned` is set if events after the cursor were pruned, or the cursor is in the future of this log, or from a log
    that was replaced by an older copy.
    """
    _, end = EventLog.objects.bounds()
    events = list(chosen.events().after(after).filter(id__lte=end)[: MAX_NEW_ROWS + 1])
    more = len(events) > MAX_NEW_ROWS
    events = events[:MAX_NEW_ROWS]
    pruned = not LogFloor.now() <= after <= end  # read last, because a prune meanwhile may have removed rows above
    pruned = pruned or EventLog.objects.find_restored(after) is not None
    return Activity([Row(event) for event in reversed(events)], events[-1].id if more else end, more, pruned)


def _page(found: EventLogQuerySet, cursor: int) -> Activity:
    events = list(found[: PAGE_ROWS + 1])
    more = len(events) > PAGE_ROWS
    return Activity([Row(event) for event in events[:PAGE_ROWS]], cursor, more, not more and LogFloor.now() > 0)
