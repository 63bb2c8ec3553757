"""What the API and the page say of instances. This reads rows alone, so looking wakes no instance."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from lifecycle.models import Instance, Lease
from lifecycle.state_machine import State


def sleeps_at(row: Instance, is_used: bool) -> datetime | None:
    """Return when the instance will be put to sleep unless work comes. None: no time is set for that.

    `is_used`: it has work, or an awake instance needs it. One that is disabled is put to sleep at once, and one that is
    kept awake not before that ends.
    """
    if row.state != State.READY or is_used or row.last_used is None:
        return None
    if row.disabled and not row.is_started_while_disabled:
        is_due = datetime.fromisoformat(row.disabled["at"])
        return max(is_due, row.next_stop_try) if row.next_stop_try else is_due
    if not row.idle_timeout:
        return None
    times = [row.last_used + row.idle_timeout, row.next_stop_try, row.awake_until]
    return max(time for time in times if time)


def describe(rows: Iterable[Instance], now: datetime) -> list[dict[str, Any]]:
    """Return the instances as the JSON API shows them: times in UTC, ages in seconds."""
    leases = defaultdict(list)
    for lease in Lease.objects.order_by("since"):
        leases[lease.instance_id].append(lease)
    dependents = Instance.objects.dependents()
    return [_describe(row, leases[row.name], dependents.get(row.name, []), now) for row in rows]


def _describe(row: Instance, leases: list[Lease], needed_by: list[str], now: datetime) -> dict[str, Any]:
    return {
        "name": row.name,
        "state": row.state,
        "since": row.since,
        "run": row.run,
        "paused": row.is_paused,
        "present": row.present,
        "leases": [_describe_lease(lease, now) for lease in leases],
        "needs": row.needs,
        "needed_by": needed_by,
        "sleeps_at": sleeps_at(row, bool(leases or needed_by)),
        **_describe_decisions(row, now),
        "last_failure": row.failure,
        "stop_failure": row.stop_failure,
        "last_exit": row.exit,
        "work_failure": row.work_failure,
        "label_error": row.label_error or None,
        "label_warning": row.label_warning or None,
    }


def _describe_decisions(row: Instance, now: datetime) -> dict[str, Any]:
    """Return what people decided: until when it is kept awake, and whether it is disabled."""
    is_kept = row.awake_until is not None and row.awake_until > now
    return {
        "awake_until": row.awake_until if is_kept else None,
        "awake_by": (row.awake_by or {}).get("by") if is_kept else None,
        "disabled": row.disabled,
    }


def _describe_lease(lease: Lease, now: datetime) -> dict[str, Any]:
    """Return the lease of one process: how much work it stands for, the oldest of it, and what all of it is for."""
    caller = lease.ordered or {}
    return {
        "works": lease.works,
        "since": lease.since,
        "age_seconds": _age_seconds(lease.since, now),
        **{name: caller.get(name) for name in ("by", "by_kind")},
        "for": lease.purposes,
    }


def _age_seconds(since: datetime, now: datetime) -> int:
    return max(0, int((now - since).total_seconds()))
