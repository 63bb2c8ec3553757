"""The event log: the one truth that the stream, the page and the audit read."""

import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from django.db import models, transaction
from django.db.models import Max, Min, Subquery, Value
from django.db.models.functions import Coalesce

PRUNED_AT_ONCE_ROWS = 1000
#: Between two batches of a prune, so that others come to write.
PRUNE_PAUSE_SECONDS = 0.01


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

    def read(self) -> tuple[list["EventLog"], int]:
        """These rows, and the floor of the log: of the same snapshot, or a later one where there are no rows.

        So whatever was pruned away from among them is at or below that floor.
        """
        floor = Coalesce(Subquery(LogFloor.objects.values("floor")[:1]), Value(0))
        rows = list(self.annotate(floor=floor))
        return list(rows), rows[0].floor if rows else LogFloor.now()  # type: ignore[attr-defined]  # the annotation

    def bounds(self) -> tuple[int, int]:
        """The id of the oldest event kept, 0 where there is none, and that of the latest there ever was, 0 for none."""
        # Statements of their own: SQLite answers MIN or MAX alone from the index, and both together by reading all.
        floor = LogFloor.now()
        latest = self.aggregate(id=Max("id"))["id"]
        oldest = self.filter(id__gt=floor).aggregate(id=Min("id"))["id"]
        return oldest or 0, max(latest or 0, floor)

    def floor_before(self, moment: datetime) -> int:
        """The id up to which everything happened before `moment`: a prefix of the log, whatever the clocks did."""
        _, latest = self.bounds()  # first: what comes later is newer
        newer = self.filter(at__gte=moment).aggregate(id=Min("id"))["id"]
        return newer - 1 if newer else latest

    def prune(self, floor: int) -> int:
        """Removes everything up to the id `floor`, and returns how much that was. Not inside a transaction.

        The floor is committed first, so that whoever misses the rows can tell; they go in batches.
        """
        LogFloor.raise_to(floor)
        doomed = self.filter(id__lte=floor).order_by("id")
        removed = 0
        while ids := list(doomed.values_list("id", flat=True)[:PRUNED_AT_ONCE_ROWS]):
            removed += self.filter(id__lte=ids[-1]).delete()[0]
            time.sleep(PRUNE_PAUSE_SECONDS)
        return removed

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
            # Both at once: where the two seldom meet, either alone reads on and on (106 ms in a million rows).
            models.Index(fields=["instance", "type", "id"], name="event_log_instance_type_id"),
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


class LogFloor(models.Model):
    """Up to which id the log has been pruned: one row, or none. Only ever raised."""

    floor = models.PositiveBigIntegerField()

    class Meta:
        db_table = "event_log_floor"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.floor)

    @classmethod
    def now(cls) -> int:
        """0 in a log that was never pruned."""
        return cls.objects.aggregate(floor=Max("floor"))["floor"] or 0

    @classmethod
    def raise_to(cls, floor: int) -> None:
        """Commits it; there is no way back."""
        with transaction.atomic(durable=True):
            row, _ = cls.objects.select_for_update().get_or_create(pk=1, defaults={"floor": floor})
            if row.floor < floor:
                row.floor = floor
                row.save()
