"""The activity timeline: which events a reader asked for, and how each appears as a row."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any, Self
from urllib.parse import urlencode

from django.http import QueryDict
from django.utils import timezone

from events import event_types
from events.log import replace_unstorable
from events.models import EventLog, EventLogQuerySet, LogFloor

PAGE_ROWS = 50
ACTIVITY_ROWS = 100


@dataclass(frozen=True)
class Filter:
    """What the reader wants to see: nothing chosen means everything."""

    instances: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    failures: bool = False

    @classmethod
    def of(cls, query: QueryDict) -> Self:
        def chosen(name: str) -> tuple[str, ...]:
            return tuple(dict.fromkeys(replace_unstorable(value) for value in query.getlist(name) if value))

        return cls(chosen("instance"), chosen("type"), bool(query.get("failures")))

    def events(self) -> EventLogQuerySet:
        found = EventLog.objects.matching(self.instances, self.types)
        return found.filter(type__in=event_types.FAILURE_TYPES) if self.failures else found

    def query(self, **more: Any) -> str:
        """As the query of an address, `?` and all; empty when there is nothing to say."""
        pairs = [("instance", name) for name in self.instances] + [("type", type) for type in self.types]
        pairs += [("failures", "1")] * self.failures + [(name, str(value)) for name, value in more.items()]
        return "?" + urlencode(pairs) if pairs else ""

    def __bool__(self) -> bool:
        return bool(self.instances or self.types or self.failures)


@dataclass(frozen=True)
class Row:
    """One event as people see it."""

    event: EventLog

    @property
    def display(self) -> event_types.EventDisplay:
        return event_types.display_of(self.event.type)

    @property
    def rest(self) -> str | None:
        return event_types.predicate_of(self.event)

    @property
    def sentence(self) -> str:
        return event_types.sentence_of(self.event)

    @property
    def cause(self) -> str:
        cause = self.event.data.get("cause")
        return event_types.CAUSES.get(str(cause), str(cause)) if cause else ""

    @property
    def error(self) -> str:
        return str(self.event.data.get("error") or "none was given")

    @property
    def output(self) -> str:
        return str(self.event.data.get("log_tail") or "")

    @property
    def json(self) -> str:
        return json.dumps(self.event.data, indent=2, ensure_ascii=False)

    @property
    def day(self) -> date:
        return timezone.localdate(self.event.at)


@dataclass(frozen=True)
class Day:
    """Neighbouring rows of one day."""

    date: date
    rows: Sequence[Row]


@dataclass(frozen=True)
class Activity:
    """Some events, newest first; `cursor` says up to which one the log was read, `more` whether some were left."""

    rows: Sequence[Row]
    cursor: int
    more: bool
    #: Whether events were here once that are not kept any more: before these rows, or between them and a cursor.
    pruned: bool

    @property
    def days(self) -> list[Day]:
        return [Day(day, list(rows)) for day, rows in groupby(self.rows, key=lambda row: row.day)]


def latest(chosen: Filter) -> Activity:
    """The newest page. The end of the log is read first: what comes later is found from that cursor."""
    _, cursor = EventLog.objects.bounds()
    return _newest(chosen.events().before(cursor + 1), cursor)


def older(chosen: Filter, before: int) -> Activity:
    """The page below the event `before`."""
    return _newest(chosen.events().before(before), before)


def _newest(found: EventLogQuerySet, cursor: int) -> Activity:
    events = list(found[: PAGE_ROWS + 1])
    more = len(events) > PAGE_ROWS
    return Activity([Row(event) for event in events[:PAGE_ROWS]], cursor, more, not more and LogFloor.now() > 0)


def news(chosen: Filter, after: int) -> Activity:
    """The first events after the cursor `after`, so that nobody who comes back for more misses one.

    Pruned: what was between is gone, or the log is another (`after` is in its future).
    """
    _, end = EventLog.objects.bounds()
    events = list(chosen.events().after(after).filter(id__lte=end)[: ACTIVITY_ROWS + 1])
    more = len(events) > ACTIVITY_ROWS
    events = events[:ACTIVITY_ROWS]
    pruned = not LogFloor.now() <= after <= end  # read last: what it has overtaken may be missing above
    return Activity([Row(event) for event in reversed(events)], events[-1].id if more else end, more, pruned)
