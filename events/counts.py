"""How many events of each kind were ever recorded, for metrics.

A count is written in the transaction of its event, so the two agree however a process ends. Pruning lowers no count.
"""

from typing import Any

from django.db.models import F

from events.models import LOG_RESTORED, EventCount, EventLog

#: Dormouse's own types, each with the member of its data by which its events are counted apart.
COUNTED_BY = {
    "container.lazy_started": "trigger",
    "container.lazy_start_failed": "cause",
    "container.lazy_stopped": "trigger",
    "container.lazy_stop_failed": "",
    "container.exited": "cause",
    "container.kept_awake": "",
    "container.keep_awake_ended": "",
    "container.disabled": "",
    "container.enabled": "",
    "work.failed": "status",
    LOG_RESTORED: "",
}
#: Stands for all other types. Programs invent them, and instances for them, so they are not counted apart.
OTHER = "other"
MAX_DETAIL_CHARACTERS = 50


def count(event: EventLog) -> None:
    """Count an event, in its transaction and under the writers' lock. Raises DatabaseError."""
    kind = kind_of(event)
    if not EventCount.objects.filter(**kind).update(count=F("count") + 1):
        EventCount.objects.create(**kind, count=1)


def kind_of(event: EventLog) -> dict[str, Any]:
    """Return the row that counts the event. The number of rows is bounded for each instance."""
    if event.type not in COUNTED_BY:
        return {"type": OTHER, "instance": "", "detail": ""}
    detail = event.data.get(COUNTED_BY[event.type])
    return {
        "type": event.type,
        "instance": event.instance,
        "detail": "" if detail is None else str(detail)[:MAX_DETAIL_CHARACTERS],
    }
