"""The states of an instance, and every write of its row.

Each change of a row goes through a named method of `InstanceQuerySet`, which makes it with one conditional UPDATE: the
process whose UPDATE succeeded owns the transition.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Case, F, Q, When

from lifecycle.engines.base import Address

if TYPE_CHECKING:
    from lifecycle.models import Instance

#: For how long after a piece of work broke off it counts as work in flight at the end of its instance. The connection
#: ends before the engine has noticed the end.
BROKE_OFF_WITHIN = timedelta(seconds=5)
#: A run that ends by itself so soon after it was ready, and before any work, counts as a short life.
SHORT_LIFE = timedelta(seconds=10)


#: Conditions of an UPDATE.
ALWAYS = Q()
IS_ENABLED, IS_DISABLED = Q(disabled__isnull=True), Q(disabled__isnull=False)


def may_sleep(now: datetime) -> Q:
    """Return the condition that an instance is not kept awake."""
    return Q(awake_until__isnull=True) | Q(awake_until__lte=now)


class State(models.TextChoices):
    """The state of an instance, according to the last transition that Dormouse committed."""

    ASLEEP = "asleep", "asleep"
    STARTING = "starting", "starting"
    READY = "ready", "ready"
    STOPPING = "stopping", "stopping"


class Mode(models.TextChoices):
    """The way in which an instance is put to sleep, and woken."""

    STOP = "stop", "stop"
    PAUSE = "pause", "pause"


def find_dependents(rows: Iterable["Instance"]) -> dict[str, list[str]]:
    """Return the names of the instances that awake ones among `rows` need, each with the names of those."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.state != State.ASLEEP:
            for needed in row.needs:
                found[needed].append(row.name)
    return found


class InstanceQuerySet(models.QuerySet["Instance"]):
    """The state machine's writes: every one of them, and nothing else.

    The methods that take a `row` compare and swap. They return False, and write nothing, if the row changed since
    `row` was read; else `row` is up to date afterwards. `now` is wall time (UTC).
    """

    def register(self, name: str, *, now: datetime, idle_timeout: timedelta | None) -> "Instance":
        """Return the row of `name`. If there is none yet, insert one that is asleep."""
        return self.get_or_create(name=name, defaults={"since": now, "idle_timeout": idle_timeout})[0]

    # Claims: the row belongs to `owner` until that worker settles it, or another one takes it over.

    def claim_start(
        self,
        row: "Instance",
        *,
        owner: uuid.UUID,
        now: datetime,
        incarnation: str,
        mode: Mode,
        needs: list[str],
        ordered: dict[str, Any],
    ) -> bool:
        """Begin the next run, unless the instance is disabled.

        `incarnation` is what the engine showed before it: a start of ours changes it. With Mode.PAUSE the instance is
        paused, and this run resumes it: that changes no incarnation. What it `needs` stays awake from now on.
        """
        values = {"state": State.STARTING, "run": row.run + 1, "incarnation": incarnation, "probed": False}
        values |= {"adopted": False, "mode": mode, "needs": needs, "ordered": ordered}
        values |= {"short_lives": row.count_short_lives(now)}
        is_claimed = self._compare_and_swap(row, IS_ENABLED, owner=owner, since=now, **values)
        return is_claimed and self._hold_needed(row)

    def claim_stop(
        self,
        row: "Instance",
        *,
        owner: uuid.UUID,
        now: datetime,
        idle_seconds: int,
        ordered: dict[str, Any],
        condition: Q = ALWAYS,
    ) -> bool:
        """Begin to stop a ready instance that has been idle for `idle_seconds`. Being kept awake ends.

        `condition` is about what does not move the version: whether it is kept awake or disabled.
        """
        values = {"state": State.STOPPING, "idle_seconds": idle_seconds, "ordered": ordered, "mode": Mode.STOP}
        values |= {"awake_until": None, "awake_by": None}
        return self._compare_and_swap(row, condition, owner=owner, since=now, **values)

    def set_mode(self, row: "Instance", mode: Mode) -> bool:
        """Change what a claim does: a stop becomes a pause, or a resume becomes a start."""
        return self._compare_and_swap(row, mode=mode)

    def take_over(self, row: "Instance", *, owner: uuid.UUID) -> bool:
        """Make `owner` the owner of a claim, keeping its `since`: the claim is as old as it was."""
        return self._compare_and_swap(row, owner=owner)

    def settle_started(self, row: "Instance", *, now: datetime, incarnation: str, address: Address | None) -> bool:
        """End a start: the instance is ready, probed at `address`, and its idle clock begins."""
        values = {"state": State.READY, "incarnation": incarnation, "probed": True, "last_used": now}
        values |= {"stop_failure": None, "address": address, "exit": None, "broke_off": 0, "has_worked": False}
        return self._compare_and_swap(row, owner=None, since=now, **values)

    def settle_failed(self, row: "Instance", *, now: datetime, failure: dict[str, Any]) -> bool:
        """End a start that failed: the instance is asleep, and `failure` is kept."""
        return self._fall_asleep(row, now=now, owner=None, failure=failure, mode=Mode.STOP, short_lives=0)

    def settle_stopped(self, row: "Instance", *, now: datetime) -> bool:
        """End a stop: the instance is asleep."""
        return self._fall_asleep(row, now=now, owner=None, idle_seconds=None, stop_failure=None, short_lives=0)

    def settle_stop_failed(self, row: "Instance", *, now: datetime, failure: dict[str, Any]) -> bool:
        """End a stop that the engine refused: the instance is ready and takes work. `failure` is kept."""
        values = {"idle_seconds": None, "stop_failure": failure}
        return self._compare_and_swap(row, state=State.READY, owner=None, since=now, **values)

    def give_stop_up(self, row: "Instance", *, now: datetime) -> bool:
        """End a stop that was not made: the instance is ready, and its idle time begins."""
        values = {"state": State.READY, "idle_seconds": None, "last_used": now}
        return self._compare_and_swap(row, owner=None, since=now, **values)

    # What people and other programs did.

    def adopt(self, row: "Instance", *, now: datetime, incarnation: str, needs: list[str]) -> bool:
        """Note that the instance runs although Dormouse did not start it. Its idle clock begins."""
        values = {"state": State.READY, "incarnation": incarnation, "probed": False, "last_used": now}
        values |= {"stop_failure": None, "address": None, "adopted": True, "broke_off": 0, "mode": Mode.STOP}
        values |= {"ordered": None}
        return self._compare_and_swap(row, since=now, needs=needs, **values) and self._hold_needed(row)

    def mark_probed(self, row: "Instance", *, address: Address | None) -> bool:
        """Note that the readiness probe of an adopted instance succeeded at `address`."""
        return self._compare_and_swap(row, probed=True, address=address, exit=None)

    def mark_asleep(self, row: "Instance", *, now: datetime) -> bool:
        """Note that a ready instance does not run any more although Dormouse did not stop it."""
        values = {"probed": False, "stop_failure": None, "mode": Mode.STOP}
        return self._fall_asleep(row, now=now, short_lives=row.count_short_lives(now), **values)

    # What instances need of each other.

    def dependents(self) -> dict[str, list[str]]:
        """Return the names of the needed instances, each with the names of the awake ones that need it."""
        return find_dependents(self.exclude(state=State.ASLEEP).order_by("name"))

    def are_ready(self, names: Collection[str]) -> bool:
        """Return whether all of the named instances are ready, according to their rows."""
        return self.filter(pk__in=names, state=State.READY).count() == len(names)

    def _hold_needed(self, row: "Instance") -> bool:
        """Change the versions of ready instances that `row` needs, so that a stop that has read one claims nothing.

        A stop that reads one later sees that `row` is awake. Return True.
        """
        if row.needs:
            self.filter(pk__in=row.needs, state=State.READY).update(version=F("version") + 1)
        return True

    def _fall_asleep(self, row: "Instance", *, now: datetime, **values: Any) -> bool:
        """Make the instance asleep. The idle time of what it needs begins."""
        if not self._compare_and_swap(row, state=State.ASLEEP, since=now, **values):
            return False
        if row.needs:
            self.end_work(row.needs, now=now)
        return True

    # Work and the idle clock.

    def mark_used(self, row: "Instance", condition: Q = IS_ENABLED) -> bool:
        """Change the version of a ready, probed row for a new lease, so that a stop that has read it claims nothing.

        Unlike the other methods it accepts a newer version, because leases do not exclude each other. It returns False
        if the instance is not ready any more, runs another incarnation than `row`, or `condition` does not hold: no new
        work goes to one that is disabled.
        """
        ready = self.filter(condition, pk=row.pk, state=State.READY, incarnation=row.incarnation, probed=True)
        return bool(ready.update(version=F("version") + 1, has_worked=True, short_lives=0))

    def end_work(self, names: Collection[str], *, now: datetime) -> None:
        """Restart the idle clock of those named instances that are ready. In other states there is no idle clock."""
        self.filter(pk__in=names, state=State.READY).update(last_used=now, version=F("version") + 1)

    def note_broken_work(self, name: str, count: int, *, now: datetime) -> None:
        """Count work that broke off in a ready instance, perhaps because it has just ended."""
        is_recent = Case(When(broke_off_at__gte=now - BROKE_OFF_WITHIN, then=F("broke_off") + count), default=count)
        self.filter(pk=name, state=State.READY).update(broke_off=is_recent, broke_off_at=now)

    def restart_idle_clock(self, row: "Instance", *, now: datetime) -> bool:
        """Begin the idle time of a ready instance anew."""
        return self._compare_and_swap(row, last_used=now)

    def note_exit(self, name: str, incarnation: str, *, exit: dict[str, Any]) -> None:
        """Keep the failed end of an incarnation, unless the instance has been started again since."""
        self.filter(pk=name, incarnation=incarnation).exclude(state=State.STARTING).update(exit=exit)

    def note_failed_work(self, name: str, failure: dict[str, Any]) -> None:
        """Keep the latest failed work of an instance until work succeeds."""
        self.filter(pk=name).update(work_failure=failure)

    def note_succeeded_work(self, name: str) -> None:
        """Forget the failed work of an instance."""
        self.filter(pk=name, work_failure__isnull=False).update(work_failure=None)

    # What people decided. This does not move the version: a claim is not lost by it. Claims and leases ask for it.

    def keep_awake(self, *, until: datetime, by: dict[str, Any]) -> int:
        """Keep those that are ready awake until then. Return how many they are."""
        return self.filter(state=State.READY).update(awake_until=until, awake_by=by)

    def end_keep_awake(self) -> None:
        """Let them sleep when they are idle."""
        self.filter(awake_until__isnull=False).update(awake_until=None, awake_by=None)

    def move_keep_awake(self, names: Mapping[str, str]) -> None:
        """Keep renamed instances awake as long as under their old names. `names` maps old names to new ones."""
        kept = {row.name: row for row in self.filter(pk__in=names, awake_until__isnull=False)}
        self.filter(pk__in=kept).end_keep_awake()
        for name, row in kept.items():
            self.filter(pk=names[name]).update(awake_until=row.awake_until, awake_by=row.awake_by)

    def disable(self, decision: dict[str, Any]) -> None:
        """Refuse new work from now on. `decision` says when, why and by whom."""
        self.update(disabled=decision)

    def enable(self) -> None:
        """Accept new work again."""
        self.update(disabled=None)

    # Facts beside the state. They do not move the version, and write nothing that is there already.

    def note_present(self, name: str) -> None:
        """Note that the engine has the instance."""
        self._note(name, present=True, absent_since=None)

    def note_absent(self, name: str, *, now: datetime) -> None:
        """Note that the engine does not have the instance any more."""
        values = {"present": False, "absent_since": now, "label_error": "", "label_warning": ""}
        self.filter(pk=name, present=True).update(**values)

    def note_paused(self, name: str, is_paused: bool) -> None:
        """Note whether a sleeping instance is paused."""
        mode = Mode.PAUSE if is_paused else Mode.STOP
        self.filter(pk=name, state=State.ASLEEP).exclude(mode=mode).update(mode=mode)

    def note_labels(self, name: str, *, error: str, warning: str, **values: Any) -> None:
        """Note what the instance's labels say: `values` are its `idle_timeout` and `needs`."""
        self._note(name, label_error=error, label_warning=warning, **values)

    def _compare_and_swap(self, row: "Instance", condition: Q = ALWAYS, /, **values: Any) -> bool:
        unchanged = self.filter(condition, pk=row.pk, state=row.state, version=row.version)
        if not unchanged.update(version=F("version") + 1, **values):
            return False
        row.version += 1
        for name, value in values.items():
            setattr(row, name, value)
        return True

    def _note(self, name: str, **values: Any) -> None:
        self.filter(pk=name).exclude(**values).update(**values)
