"""The instances as people see them, and whether the supervisor still asks the engine."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from lifecycle import assembly
from lifecycle.api import status
from lifecycle.models import EngineStatus, Instance, Lease, State

#: The supervisor writes the engine's status every few seconds. If that is this old, no supervisor runs.
STALE_AFTER = timedelta(seconds=60)

ICONS = {State.ASLEEP: "moon", State.STARTING: "loader", State.READY: "play", State.STOPPING: "loader"}


@dataclass(frozen=True)
class Card:
    """One instance: its state, what it is doing, and what is wrong with it."""

    instance: Instance
    now: datetime

    @property
    def icon(self) -> str:
        """The name of the icon of its state."""
        return ICONS[State(self.instance.state)]

    @property
    def leases(self) -> list[datetime]:
        """The times when each piece of work in flight began, oldest first."""
        return sorted(lease.since for lease in self.instance.leases.all())

    @property
    def is_idle(self) -> bool:
        """True if it is ready and has no work."""
        return self.instance.state == State.READY and not self.leases

    @property
    def sleeps_at(self) -> datetime | None:
        """The time when it will be put to sleep if no work comes. None: no time is set for that."""
        return status.sleeps_at(self.instance, bool(self.leases))

    @property
    def is_due(self) -> bool:
        """True if the time to put it to sleep has come."""
        return self.sleeps_at is not None and self.sleeps_at <= self.now

    @property
    def failure(self) -> dict[str, Any] | None:
        """Its latest failed start, with `at` as a datetime, or None if that cannot be read."""
        failure: dict[str, Any] | None = self.instance.failure
        if not failure:
            return None
        try:
            return failure | {"at": parse_datetime(str(failure.get("at", "")))}
        except ValueError:
            return failure | {"at": None}

    @property
    def stop_failure(self) -> dict[str, Any] | None:
        """Its latest failed stop, with `at` and `next_try` as datetimes, or None if no series of them goes on."""
        found: dict[str, Any] | None = self.instance.stop_failure
        return found and found | {key: parse_datetime(found[key]) for key in ("at", "next_try")}

    @property
    def has_just_failed(self) -> bool:
        """True if its latest run is the one that failed."""
        run = (self.instance.failure or {}).get("run")
        return self.instance.state == State.ASLEEP and run is not None and run == self.instance.run


@dataclass(frozen=True)
class EngineNotice:
    """A notice about the engine: its error, or that no supervisor has asked it since `asked`."""

    engine: str
    error: str = ""
    answered: datetime | None = None
    asked: datetime | None = None
    is_stale: bool = False


def cards() -> Sequence[Card]:
    """Return the instances that the engine has, and those it does not have any more that are not asleep."""
    worth_showing = Q(present=True) | ~Q(state=State.ASLEEP) | ~Q(label_error="")
    now = assembly.clock.now()
    return [Card(instance, now) for instance in Instance.objects.filter(worth_showing).prefetch_related("leases")]


def cards_tag() -> str:
    """Return an ETag of the cards and the engine's notice, without rendering them.

    A text such as "about to sleep" also depends on the time, and each time on the reader's zone, hence the minute.
    """
    columns = [field.attname for field in Instance._meta.concrete_fields if field.attname != "failure"]
    shown = (
        settings.DORMOUSE_VERSION,
        timezone.get_current_timezone_name(),
        assembly.clock.now().replace(second=0, microsecond=0),
        list(Instance.objects.order_by("name").values_list(*columns)),
        list(Lease.objects.order_by("pk").values_list("pk", "instance_id", "since")),
        replace(engine_notice(), asked=None),
        assembly.database_trouble(),
    )
    return f'"{hashlib.sha256(repr(shown).encode()).hexdigest()[:32]}"'


def engine_notice() -> EngineNotice:
    """Return what is known of the engine that the settings name."""
    engine = settings.DORMOUSE_ENGINE
    latest = EngineStatus.objects.filter(engine=engine).first()
    if latest is None:
        return EngineNotice(engine, is_stale=True)
    is_stale = assembly.clock.now() - latest.asked > STALE_AFTER
    return EngineNotice(engine, latest.error, latest.answered, latest.asked, is_stale)
