"""The instances as people see them, and whether anybody is looking at the engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from lifecycle.api import status
from lifecycle.models import EngineStatus, Instance, State

#: The supervisor looks every few seconds; when it has not for this long, it is not running.
SIGHT_IS_OLD = timedelta(seconds=60)

ICONS = {State.ASLEEP: "moon", State.STARTING: "loader", State.READY: "play", State.STOPPING: "loader"}


@dataclass(frozen=True)
class Card:
    """One instance: its state, what it is doing, and what is wrong with it."""

    instance: Instance
    now: datetime

    @property
    def icon(self) -> str:
        return ICONS[State(self.instance.state)]

    @property
    def leases(self) -> list[datetime]:
        """Since when each piece of work is in flight, oldest first."""
        return sorted(lease.since for lease in self.instance.leases.all())

    @property
    def is_idle(self) -> bool:
        return self.instance.state == State.READY and not self.leases

    @property
    def sleeps_at(self) -> datetime | None:
        """When it will be put to sleep if no work comes; None: not, as things are."""
        return status.sleeps_at(self.instance, bool(self.leases))

    @property
    def is_due(self) -> bool:
        return self.sleeps_at is not None and self.sleeps_at <= self.now

    @property
    def failure(self) -> dict[str, Any] | None:
        """Its latest failed start, `at` as a datetime where it can be read."""
        failure: dict[str, Any] | None = self.instance.failure
        if not failure:
            return None
        try:
            return failure | {"at": parse_datetime(str(failure.get("at", "")))}
        except ValueError:
            return failure | {"at": None}

    @property
    def has_just_failed(self) -> bool:
        """Whether that is what became of its latest run."""
        run = (self.instance.failure or {}).get("run")
        return self.instance.state == State.ASLEEP and run is not None and run == self.instance.run


@dataclass(frozen=True)
class Sight:
    """What is known of the engine: `error` from it, or else that nobody has looked since `asked`."""

    engine: str
    error: str = ""
    answered: datetime | None = None
    asked: datetime | None = None
    is_old: bool = False

    @property
    def is_clear(self) -> bool:
        return not self.error and not self.is_old


def cards() -> Sequence[Card]:
    """What the engine has, and what it no longer has but is not done with."""
    worth_showing = Q(present=True) | ~Q(state=State.ASLEEP) | ~Q(label_error="")
    now = timezone.now()
    return [Card(instance, now) for instance in Instance.objects.filter(worth_showing).prefetch_related("leases")]


def sight() -> Sight:
    engine = settings.DORMOUSE_ENGINE
    seen = EngineStatus.objects.filter(engine=engine).first()
    if seen is None:
        return Sight(engine, is_old=True)
    is_old = timezone.now() - seen.asked > SIGHT_IS_OLD
    return Sight(engine, seen.error, seen.answered, seen.asked, is_old)
