"""The instances as people see them, and whether the supervisor still asks the engine."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from events import event_types
from events.models import EventLog
from lifecycle import assembly
from lifecycle.api import status
from lifecycle.models import EngineStatus, Instance, Lease
from lifecycle.state_machine import State, find_dependents
from telling.models import Subscription

#: For how long the buttons of a card keep an agent awake, and their words.
AWAKE_CHOICES = [("1h", "1 h"), ("4h", "4 h"), ("24h", "24 h")]
#: How long an agent is named that the engine does not have any more.
GONE_FOR = timedelta(days=7)
#: The supervisor writes the engine's status every few seconds. If that is this old, no supervisor runs.
STALE_AFTER = timedelta(seconds=60)

ICONS = {State.ASLEEP: "moon", State.STARTING: "loader", State.READY: "play", State.STOPPING: "loader"}

#: The failure of a card fades after this time.
FADES_AFTER = timedelta(days=1)
#: Up to this many instances, those that quietly sleep are shown like the others.
MANY = 12
#: The latest failures that are counted of one instance.
MAX_STREAK = 20


@dataclass(frozen=True)
class Card:
    """One instance: its state, what it is doing, and what is wrong with it."""

    instance: Instance
    now: datetime
    #: The names of the awake agents that need it.
    needed_by: Sequence[str] = ()

    @property
    def group(self) -> str:
        """The name of the group in which it is counted: the first of GROUPS that fits."""
        if self.is_alarming or self.has_just_exited or self.stop_failure or self.has_failed_at_work:
            return "failed"
        if self.instance.label_error:
            return "in error"
        if self.instance.disabled and not self.leases:
            return "disabled"
        return "working" if self.leases else self.instance.state

    @property
    def is_quiet(self) -> bool:
        """True if it sleeps without a failure or a warning."""
        return self.group == State.ASLEEP and self.instance.present and not self.instance.label_warning

    @property
    def icon(self) -> str:
        """The name of the icon of its state."""
        return ICONS[State(self.instance.state)]

    @property
    def leases(self) -> list[datetime]:
        """The times when the oldest work of each process began, oldest first."""
        return sorted(lease.since for lease in self.instance.leases.all())

    @property
    def works(self) -> int:
        """The number of pieces of work in flight. It may be a second old."""
        return sum(lease.works for lease in self.instance.leases.all())

    @property
    def is_idle(self) -> bool:
        """True if it is ready and has no work."""
        return self.instance.state == State.READY and not self.leases

    @property
    def dependents(self) -> str:
        """The names of the awake agents that need it, as a text."""
        return ", ".join(self.needed_by)

    @property
    def sleeps_at(self) -> datetime | None:
        """The time when it will be put to sleep if no work comes. None: no time is set for that."""
        return status.sleeps_at(self.instance, bool(self.leases or self.needed_by))

    @property
    def is_due(self) -> bool:
        """True if the time to put it to sleep has come."""
        return self.sleeps_at is not None and self.sleeps_at <= self.now

    @property
    def awake_choices(self) -> list[tuple[str, str]]:
        """The times for which its buttons keep it awake, and their words."""
        return AWAKE_CHOICES

    @property
    def awake_until(self) -> datetime | None:
        """The time until which it is kept awake. None: it is not."""
        until: datetime | None = self.instance.awake_until
        return until if until and until > self.now else None

    @property
    def disabled(self) -> dict[str, Any] | None:
        """The decision that disabled it: at what time, by whom and why. None: it is not disabled."""
        found: dict[str, Any] | None = self.instance.disabled
        return found and found | {"at": parse_datetime(found["at"])}

    @property
    def caller(self) -> str:
        """The end of a sentence that says what its oldest work is for and who ordered it."""
        lease = min(self.instance.leases.all(), key=lambda lease: lease.since, default=None)
        return event_types.caller_of(lease.ordered or {}) if lease else ""

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
    def exit(self) -> str:
        """The way in which its latest run ended, if that was a failure and it has not worked since."""
        try:
            return event_types.describe_exit(self.instance.exit) if self.instance.exit else ""
        except (KeyError, TypeError, ValueError):
            return "exited"

    @property
    def work_failure(self) -> dict[str, Any] | None:
        """Its latest failed work, with `at` as a datetime, if none has succeeded since and its end does not tell it."""
        found: dict[str, Any] | None = self.instance.work_failure
        return (found and not self.exit and found | {"at": parse_datetime(found["at"])}) or None

    @property
    def has_failed_at_work(self) -> bool:
        """True if its latest work failed, less than a day ago."""
        return self.work_failure is not None and self.now - self.work_failure["at"] < FADES_AFTER

    @property
    def exited_at(self) -> datetime | None:
        """The time when its latest run ended."""
        return parse_datetime(str((self.instance.exit or {}).get("at", "")))

    @property
    def has_just_exited(self) -> bool:
        """True if its latest run ended by itself, less than a day ago."""
        return bool(self.exit) and (self.exited_at is None or self.now - self.exited_at < FADES_AFTER)

    @cached_property
    def trouble_event(self) -> int | None:
        """The id of the latest event about its failed stop, the end of its run or failed work, if that is shown."""
        shown = {"container.lazy_stop_failed": self.stop_failure, "container.exited": self.exit}
        type = next((type for type, trouble in shown.items() if trouble), self.work_failure and "work.failed")
        found = type and EventLog.objects.matching([self.instance.name], [type]).order_by("-id").first()
        return found.id if found else None

    @property
    def was_never_used(self) -> bool:
        """True if no work was ever dispatched to it."""
        return self.instance.last_used is None and not self.instance.run and not self.leases

    @property
    def has_just_failed(self) -> bool:
        """True if its latest run is the one that failed."""
        run = (self.instance.failure or {}).get("run")
        return self.instance.state == State.ASLEEP and run is not None and run == self.instance.run

    @property
    def is_alarming(self) -> bool:
        """True if it has just failed, less than a day ago."""
        at = (self.failure or {}).get("at")
        return self.has_just_failed and (at is None or self.now - at < FADES_AFTER)

    @cached_property
    def history(self) -> "FailureHistory | None":
        """Its failed starts since the last good one, if its latest start failed."""
        return failure_history(self.instance.name) if self.has_just_failed else None


@dataclass(frozen=True)
class FailureHistory:
    """The failed starts of an instance since its last good start."""

    #: The id of the latest failure's event.
    latest: int
    #: How many they are, MAX_STREAK at most.
    count: int
    last_good: datetime | None


def failure_history(name: str) -> FailureHistory | None:
    """Return the failed starts of an instance since its last good start, or None if the log has none."""
    good = EventLog.objects.matching([name], ["container.lazy_started"]).order_by("-id").first()
    failed = EventLog.objects.matching([name], ["container.lazy_start_failed"]).filter(id__gt=good.id if good else 0)
    ids = list(failed.order_by("-id").values_list("id", flat=True)[:MAX_STREAK])
    return FailureHistory(ids[0], len(ids), good.at if good else None) if ids else None


GROUPS = ["failed", "in error", "disabled", "working", State.STARTING, State.STOPPING, State.READY, State.ASLEEP]


@dataclass(frozen=True)
class Group:
    """The cards that are counted together."""

    name: str
    cards: Sequence[Card]
    #: Whether they are folded, because the page has many cards and these are quiet.
    is_folded: bool = False

    @property
    def id(self) -> str:
        """The anchor of the group."""
        return f"group-{self.name.replace(' ', '-')}" + "-quiet" * self.is_folded


@dataclass(frozen=True)
class Overview:
    """All cards, in groups: the failed ones first, then those at work."""

    cards: Sequence[Card]
    #: The agents that the engine has lost lately, and that are shown nowhere else.
    gone: Sequence[Instance] = ()

    @cached_property
    def groups(self) -> list[Group]:
        """The groups that have cards. Above MANY cards, those that quietly sleep are a folded group of their own."""
        found: dict[tuple[int, bool], list[Card]] = {}
        for card in self.cards:
            is_folded = len(self.cards) > MANY and card.is_quiet
            found.setdefault((GROUPS.index(card.group), is_folded), []).append(card)
        return [Group(GROUPS[place], found[place, is_folded], is_folded) for place, is_folded in sorted(found)]

    @property
    def counts(self) -> list[tuple[str, int, str]]:
        """The name, the number of cards and the anchor of each group."""
        return [
            (name, sum(len(group.cards) for group in same), same[0].id)
            for name in GROUPS
            if (same := [group for group in self.groups if group.name == name])
        ]


@dataclass(frozen=True)
class EngineNotice:
    """A notice about the engine: its error, or that no supervisor has asked it since `asked`."""

    engine: str
    error: str = ""
    answered: datetime | None = None
    asked: datetime | None = None
    is_stale: bool = False
    #: Whether the engine answered at the latest sweep. An error is then Dormouse's own, or about one instance.
    has_answered: bool = False
    #: A sentence for each container that is nearly labelled as an agent.
    near_misses: tuple[str, ...] = ()
    #: Which other installation manages the instances, as sentences. Empty: this one does.
    neighbour: str = ""
    #: What is said of another installation that leaves them alone, because this one manages them.
    refused_neighbour: str = ""


def overview() -> Overview:
    """Return the instances that the engine has, and those it does not have any more that are not asleep."""
    now = assembly.clock.now()
    shown = Q(present=True) | ~Q(state=State.ASLEEP) | ~Q(label_error="") | Q(absent_since__gte=now - GONE_FOR)
    rows = list(Instance.objects.filter(shown).prefetch_related("leases"))
    cards, gone, dependents = [], [], find_dependents(rows)
    for row in rows:
        if row.present or row.state != State.ASLEEP or row.label_error:
            cards.append(Card(row, now, dependents.get(row.name, ())))
        else:
            gone.append(row)
    return Overview(cards, gone)


def cards_tag() -> str:
    """Return an ETag of the cards and the engine's notice, without rendering them.

    A text such as "about to sleep" also depends on the time, and each time on the reader's zone, hence the minute.
    """
    notice = engine_notice()
    columns = [field.attname for field in Instance._meta.concrete_fields if field.attname != "failure"]
    shown = (
        settings.DORMOUSE_VERSION,
        timezone.get_current_timezone_name(),
        assembly.clock.now().replace(second=0, microsecond=0),
        list(Instance.objects.order_by("name").values_list(*columns)),
        list(Lease.objects.order_by("pk").values_list("pk", "instance_id", "works", "since")),
        replace(notice, asked=None, answered=notice.answered if notice.error else None),  # else these are not shown
        assembly.database_trouble(),
        troubled_subscriptions(),
    )
    return f'"{hashlib.sha256(repr(shown).encode()).hexdigest()[:32]}"'


def troubled_subscriptions() -> dict[str, str]:
    """Return the state of each subscription that is behind, failing or paused, by its name."""
    states = Subscription.objects.states(assembly.clock.now())
    return {name: state for name, state in states.items() if state != "delivering"}


def engine_notice() -> EngineNotice:
    """Return what is known of the engine that the settings name."""
    engine = settings.DORMOUSE_ENGINE
    latest = EngineStatus.objects.filter(engine=engine).first()
    if latest is None:
        return EngineNotice(engine, is_stale=True)
    is_stale = assembly.clock.now() - latest.asked > STALE_AFTER
    has_answered = latest.answered == latest.asked
    misses = tuple(latest.near_misses)
    return EngineNotice(
        engine,
        latest.error,
        latest.answered,
        latest.asked,
        is_stale,
        has_answered,
        misses,
        latest.neighbour,
        latest.refused_neighbour,
    )
