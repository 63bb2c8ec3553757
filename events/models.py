"""The event log. The stream, the page and the audit all read it, and nothing else."""

import json
import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from django.db import models, transaction
from django.db.models import Max, Min, Subquery, Value
from django.db.models.functions import Cast, Coalesce

PRUNE_BATCH_ROWS = 1000
#: The pause between two batches of a prune, so that other writers get their turn.
PRUNE_PAUSE_SECONDS = 0.01
#: `container.*` stands for all types that begin with `container.`.
WILDCARD = ".*"
#: The event that says that an older copy took the log's place: the ids `from` to `to` are gone.
LOG_RESTORED = "dormouse.log_restored"
MAX_TYPES = 10_000


def is_of_types(type: str, wanted: Collection[str]) -> bool:
    """Return whether `type` is one of `wanted`, or begins as one of `wanted` that ends with the wildcard."""
    return type in wanted or any(one.endswith(WILDCARD) and type.startswith(one[:-1]) for one in wanted)


class EventLogQuerySet(models.QuerySet["EventLog"]):
    """Questions to the log, in terms of cursors. A cursor is the id of the last event that a reader has seen."""

    def after(self, cursor: int) -> "EventLogQuerySet":
        """Return what was committed after `cursor`, oldest first."""
        return self.filter(id__gt=cursor).order_by("id")

    def before(self, cursor: int) -> "EventLogQuerySet":
        """Return what was committed before `cursor`, newest first."""
        return self.filter(id__lt=cursor).order_by("-id")

    def matching(self, instances: Collection[str] = (), types: Collection[str] = ()) -> "EventLogQuerySet":
        """Return the events of these instances and types (see `is_of_types`). An empty collection does not filter."""
        found = self
        if instances:
            found = found.filter(instance__in=instances)
        if any(type.endswith(WILDCARD) for type in types):
            occurring = EventLog.objects.values_of("type", at_most=MAX_TYPES)
            types = [type for type in occurring if is_of_types(type, types)]
            found = found.filter(type__in=types)
        elif types:
            found = found.filter(type__in=types)
        return found

    def containing(self, text: str) -> "EventLogQuerySet":
        """Return the events whose instance, type or data contain `text`, in any script, whatever its case."""
        found = models.Q(instance__icontains=text) | models.Q(type__icontains=text)
        # SQLite ignores the case of ASCII letters alone, and stores others as escapes: `\\u00fc` for `ü`.
        for variant in {text, text.lower(), text.upper(), text.capitalize()}:
            for is_ascii in (True, False):
                found |= models.Q(data_text__icontains=json.dumps(variant, ensure_ascii=is_ascii)[1:-1])
        return self.annotate(data_text=Cast("data", models.TextField())).filter(found)

    def read(self) -> tuple[list["EventLog"], int]:
        """Return these rows, and the floor of the log from the same snapshot (from a later one if there are no rows).

        So whatever was pruned from among these rows is at or below that floor.
        """
        floor = Coalesce(Subquery(LogFloor.objects.values("floor")[:1]), Value(0))
        rows = list(self.annotate(floor=floor))
        return list(rows), rows[0].floor if rows else LogFloor.now()  # type: ignore[attr-defined]  # the annotation

    def bounds(self) -> tuple[int, int]:
        """Return the id of the oldest event kept, and the id of the latest there ever was. 0 stands for none."""
        # Two statements: SQLite answers MIN or MAX alone from the index, but both together by reading all rows.
        floor = LogFloor.now()
        latest = self.aggregate(id=Max("id"))["id"]
        oldest = self.filter(id__gt=floor).aggregate(id=Min("id"))["id"]
        return oldest or 0, max(latest or 0, floor)

    def find_restored(self, cursor: int) -> int | None:
        """Return the new cursor of a reader whose `cursor` is among the ids that are gone, or None if it is not."""
        for data in self.filter(type=LOG_RESTORED, id__gt=cursor).order_by("id").values_list("data", flat=True):
            if data["from"] <= cursor <= data["to"]:
                return int(data["from"]) - 1
        return None

    def floor_before(self, moment: datetime, now: datetime) -> int:
        """Return the id of the newest event before `moment` that no event of the time from `moment` to `now` precedes.

        So a prefix of the log is found even if clocks went back and `at` is not in the order of the ids. An event in
        the future of `now` does not count: it is as old as its neighbours.
        """
        newer = self.filter(at__range=(moment, now)).aggregate(id=Min("id"))["id"]
        older = self.filter(at__lt=moment)
        if newer:
            older = older.filter(id__lt=newer)
        return older.aggregate(id=Max("id"))["id"] or 0

    def prune(self, floor: int) -> int:
        """Remove all events up to the id `floor`, and return how many that were. Call it outside of a transaction.

        The floor is committed first, so that a reader can tell that rows are missing. The rows go in batches.
        """
        LogFloor.raise_to(floor)
        doomed = self.filter(id__lte=floor).order_by("id")
        removed = 0
        while ids := list(doomed.values_list("id", flat=True)[:PRUNE_BATCH_ROWS]):
            removed += self.filter(id__lte=ids[-1]).delete()[0]
            time.sleep(PRUNE_PAUSE_SECONDS)
        return removed

    def values_of(self, field: str, at_most: int = 200) -> list[str]:
        """Return the values that occur in an indexed text field, in order, without the empty one.

        Each is found by one index lookup. A DISTINCT would read the whole index, of a million entries for one menu.
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
    """One event. Only `events.log.record()` writes it, and it is never changed."""

    type = models.CharField(max_length=100)
    #: The name of the instance that it is about. No foreign key, because the history outlives the instance.
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
            # For a filter by both. If few of a million events matched both, the other indexes took 106 ms.
            models.Index(fields=["instance", "type", "id"], name="event_log_instance_type_id"),
            models.Index(fields=["at"], name="event_log_at"),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.type} {self.instance}".rstrip()

    def payload(self) -> dict[str, Any]:
        """Return what a reader of the stream gets: the instance (if there is one), the data, and `at`."""
        instance = {"instance": self.instance} if self.instance else {}
        at = self.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        data: dict[str, Any] = self.data
        return instance | data | instance | {"at": at}


class LogFloor(models.Model):
    """The id up to which the log has been pruned: one row, or none. It is only ever raised."""

    floor = models.PositiveBigIntegerField()

    class Meta:
        db_table = "event_log_floor"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.floor)

    @classmethod
    def now(cls) -> int:
        """Return the floor, 0 if the log was never pruned."""
        return cls.objects.aggregate(floor=Max("floor"))["floor"] or 0

    @classmethod
    def raise_to(cls, floor: int) -> None:
        """Raise the floor to `floor` and commit that. It cannot be lowered again."""
        with transaction.atomic(durable=True):
            row, _ = cls.objects.select_for_update().get_or_create(pk=1, defaults={"floor": floor})
            if row.floor < floor:
                row.floor = floor
                row.save()


class EventCount(models.Model):
    """A count of the events of one kind that were ever recorded. See `events.counts`."""

    type = models.CharField(max_length=100)
    instance = models.CharField(max_length=255, blank=True, default="")
    #: Why it failed, what triggered it, or with which status; empty for most types.
    detail = models.CharField(max_length=50, blank=True, default="")
    count = models.PositiveBigIntegerField(default=0)

    class Meta:
        db_table = "event_count"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["instance", "type", "detail"], name="event_count_kind")]

    def __str__(self) -> str:
        return f"{self.count} {self.type} {self.instance} {self.detail}".rstrip()
