"""What an event's own page shows besides the event: its neighbours, and how long earlier starts took."""

import shlex
from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import cached_property

from django.conf import settings

from events.models import EventLog, EventLogQuerySet

STARTED = "container.lazy_started"
EARLIER_STARTS = 10
#: How many events are shown above an event on the page "around" it.
ROWS_ABOVE = 25


@dataclass(frozen=True)
class EventContext:
    """The surroundings of an event in the log."""

    event: EventLog

    @cached_property
    def previous(self) -> EventLog | None:
        """The event before it of the same instance."""
        return self._same_instance.before(self.event.id).first() if self.event.instance else None

    @cached_property
    def next(self) -> EventLog | None:
        """The event after it of the same instance."""
        return self._same_instance.after(self.event.id).first() if self.event.instance else None

    @property
    def before(self) -> int:
        """The id below which a page of events begins that has this one in its middle."""
        newer = EventLog.objects.after(self.event.id).values_list("id", flat=True)[:ROWS_ABOVE]
        return max(newer, default=self.event.id) + 1

    @cached_property
    def earlier_starts_ms(self) -> list[int]:
        """The times of the instance's starts before it, oldest first, in milliseconds. Empty if it is no start."""
        if self.event.type != STARTED or self.latency_ms is None:
            return []
        mode = self.event.data.get("mode")  # a resume is not compared with a start
        starts = EventLog.objects.matching([self.event.instance], [STARTED]).before(self.event.id)
        earlier = starts.filter(data__mode=mode) if mode else starts.filter(data__mode__isnull=True)
        found = [start.data.get("latency_ms") for start in earlier[:EARLIER_STARTS]]
        return [latency for latency in reversed(found) if isinstance(latency, int)]

    @property
    def latency_ms(self) -> int | None:
        """The time that this start took, in milliseconds, or None."""
        return self._milliseconds("latency_ms")

    @property
    def start_ms(self) -> int | None:
        """The time that the engine took, in milliseconds, or None if that is not known."""
        return self._milliseconds("start_ms")

    @property
    def ready_ms(self) -> int | None:
        """The time until the agent was ready, in milliseconds, or None if that is not known."""
        return self._milliseconds("ready_ms")

    @property
    def _same_instance(self) -> EventLogQuerySet:
        return EventLog.objects.matching([self.event.instance])

    def _milliseconds(self, name: str) -> int | None:
        value = self.event.data.get(name)
        return value if isinstance(value, int) else None


def logs_command(event: EventLog) -> str:
    """Return the command that shows the container's output around an event, or an empty text."""
    if settings.DORMOUSE_ENGINE != "docker" or not event.instance:
        return ""
    since = (event.at - timedelta(minutes=5)).astimezone(UTC).isoformat(timespec="seconds")
    until = (event.at + timedelta(minutes=1)).astimezone(UTC).isoformat(timespec="seconds")
    return f"docker logs --timestamps --since {since} --until {until} {shlex.quote(event.instance)}"
