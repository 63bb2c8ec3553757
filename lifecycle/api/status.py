"""What is said of instances to those who look. Looking never wakes, and never prolongs: it reads rows alone."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from lifecycle.models import Instance, Lease, State


def sleeps_at(row: Instance, is_leased: bool) -> datetime | None:
    """When it will be put to sleep, unless work comes; None: not by time."""
    if row.state != State.READY or is_leased or row.last_used is None or not row.idle_timeout:
        return None
    return row.last_used + row.idle_timeout


def described(rows: Iterable[Instance], now: datetime) -> list[dict[str, Any]]:
    """`rows` as JSON has them: times in UTC, ages in seconds."""
    leases = defaultdict(list)
    for lease in Lease.objects.order_by("since"):
        leases[lease.instance_id].append(lease)
    return [_described(row, leases[row.name], now) for row in rows]


def _described(row: Instance, leases: list[Lease], now: datetime) -> dict[str, Any]:
    return {
        "name": row.name,
        "state": row.state,
        "since": row.since,
        "run": row.run,
        "present": row.present,
        "leases": [{"since": lease.since, "age_seconds": _age(lease.since, now)} for lease in leases],
        "sleeps_at": sleeps_at(row, bool(leases)),
        "last_failure": row.failure,
        "label_error": row.label_error or None,
        "label_warning": row.label_warning or None,
    }


def _age(since: datetime, now: datetime) -> int:
    return max(0, int((now - since).total_seconds()))
