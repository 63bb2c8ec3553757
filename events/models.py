"""The event log: the one truth that the stream, the page and the audit read."""

from collections.abc import Collection
from datetime import UTC
from typing import Any

from django.db import models
from django.db.models import Max, Min


class EventLogQuerySet(models.QuerySet["EventLog"]):
    def after(self, cursor: int) -> "EventLogQuerySet":
        """What was committed after `cursor`, oldest first."""
        return self.filter(id__gt=cursor).order_by("id")

    def before(self, cursor: int) -> "EventLogQuerySet":
        """What was committed before `cursor`, newest first."""
        return self.filter(id__lt=cursor).order_by("-id")

    def about(self, instances: Collection[str] = (), types: Collection[str] = ()) -> "EventLogQuerySet":
        """Only these instances and types; none given: all."""
        found = self
        if instances:
            found = found.filter(instance__in=instances)
        if types:
            found = found.filter(type__in=types)
        return found

    def bounds(self) -> tuple[int, int]:
        """The ids of the oldest and the latest event; both 0 in an empty log."""
        # Two statements: SQLite answers MIN or MAX alone from the index, and both together by reading all of it.
        latest = self.aggregate(id=Max("id"))["id"]
        oldest = self.aggregate(id=Min("id"))["id"]
        return oldest or 0, latest or 0

    def values_of(self, field: str, at_most: int = 200) -> list[str]:
        """The values that occur in an indexed text field, in order, without the empty one.

        One index lookup each: a DISTINCT would read the whole index: a million entries for one menu.
        """
        found: list[str] = []
        while len(found) < at_most:
            larger = self.filter(**{f"{field}__gt": found[-1] if found else ""})
            value = larger.order_by(field).values_list(field, flat=True).first()
            if value is None:
                break
            found.append(value)
        return found


class EventLog(models.Model):
    """One event. Written by `events.log.record()` alone, and never changed."""

    type = models.CharField(max_length=100)
    #: The name of the instance it is about; no foreign key, so that history outlives its subject.
    instance = models.CharField(max_length=255, blank=True, default="")
    data = models.JSONField(default=dict)
    #: When it happened, UTC.
    at = models.DateTimeField()

    objects = EventLogQuerySet.as_manager()

    class Meta:
        db_table = "event_log"
        ordering = ["-id"]
        verbose_name = "event"
        verbose_name_plural = "event log"
        indexes = [
            models.Index(fields=["instance", "id"], name="event_log_instance_id"),
            models.Index(fields=["type", "id"], name="event_log_type_id"),
            models.Index(fields=["at"], name="event_log_at"),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.type} {self.instance}".rstrip()

    def payload(self) -> dict[str, Any]:
        """What a reader of the stream gets: `data` between the instance (where there is one) and `at`."""
        instance = {"instance": self.instance} if self.instance else {}
        at = self.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        data: dict[str, Any] = self.data
        return instance | data | instance | {"at": at}
