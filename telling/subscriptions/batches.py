"""Reading what comes after a subscription's cursor."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max, Q

from events.event_types import DISPLAYS, is_failure
from events.models import LOG_RESTORED, WILDCARD, EventLog, is_of_types
from telling.subscriptions.messages import Message, of_event, of_pruned, of_restored
from telling.subscriptions.models import Subscription

#: So many events are in memory at a time for each subscription. Each has at most 64 KiB.
BATCH_ROWS = 50
#: The types of which some or all events are failures. What an event's data say is decided after it was read.
MAYBE_FAILURES = [type for type, display in DISPLAYS.items() if display.is_failure]


@dataclass(frozen=True)
class Step:
    """Messages to deliver, and the cursor of a subscription that has them all."""

    cursor: int
    messages: tuple[Message, ...] = ()


def latest_id() -> int:
    """Return the id of the latest event that is kept, 0 if there is none."""
    return EventLog.objects.aggregate(id=Max("id"))["id"] or 0


def read_steps(row: Subscription, now: datetime) -> list[Step]:
    """Return what comes next, oldest first. The last step may only move the cursor past events that do not match."""
    latest = latest_id()  # before the rows are read, so that no row up to it is missing among them
    rows, floor = EventLog.objects.after(row.cursor).filter(_matching(row))[:BATCH_ROWS].read()
    if row.cursor < floor:
        return [Step(floor, (of_pruned(row.cursor, floor, now),))]
    steps = [Step(event.id, tuple(_messages(row, event))) for event in rows]
    return steps if len(rows) == BATCH_ROWS or latest <= row.cursor else [*steps, Step(max(latest, row.cursor))]


def _matching(row: Subscription) -> Q:
    """Return the condition on the events to read: a few too many, because SQLite's LIKE ignores case."""
    wanted = Q()
    if row.types:
        wanted = Q(type__in=[type for type in row.types if not type.endswith(WILDCARD)])
        for type in row.types:
            if type.endswith(WILDCARD):
                wanted |= Q(type__startswith=type[:-1])
    if row.instances:
        wanted &= Q(instance__in=row.instances)
    if row.failures:
        wanted &= Q(type__in=MAYBE_FAILURES)
    return wanted | Q(type=LOG_RESTORED) if wanted else wanted


def _messages(row: Subscription, event: EventLog) -> list[Message]:
    """Return what to deliver for an event. That the log was replaced is told to every subscription."""
    found = [of_restored(event)] if event.type == LOG_RESTORED else []
    if _fits(row, event):
        found.append(of_event(event, output=row.output))
    return found


def _fits(row: Subscription, event: EventLog) -> bool:
    """Return whether the subscription wants an event that was read for it."""
    is_of_its_types = not row.types or is_of_types(event.type, row.types)
    is_of_its_instances = not row.instances or event.instance in row.instances
    return is_of_its_types and is_of_its_instances and (not row.failures or is_failure(event))
