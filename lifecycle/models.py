"""What Dormouse knows of its instances, and which of its processes holds what.

An instance has one row. Each change of that row goes through a named method of `InstanceQuerySet`, which makes it with
one conditional UPDATE: the process whose UPDATE succeeded owns the transition.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import Case, F, Q, When

from lifecycle.engines.base import Address
from lifecycle.exceptions import Disabled

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
    """Say how an instance is put to sleep, and woken from that."""

    STOP = "stop", "stop"
    PAUSE = "pause", "pause"


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

    def mark_used(self, row: "Instance") -> bool:
        """Change the version of a ready, probed row for a new lease, so that a stop that has read it claims nothing.

        Unlike the other methods it accepts a newer version, because leases do not exclude each other. It returns False
        if the instance is not ready any more, is disabled, or runs another incarnation than `row`.
        """
        ready = self.filter(IS_ENABLED, pk=row.pk, state=State.READY, incarnation=row.incarnation, probed=True)
        return bool(ready.update(version=F("version") + 1, has_worked=True, short_lives=0))

    def end_work(self, names: Collection[str], *, now: datetime) -> None:
        """Restart the idle clock of those named instances that are ready. In other states there is no idle clock."""
        self.filter(pk__in=names, state=State.READY).update(last_used=now, version=F("version") + 1)

    def note_broken_work(self, names: Collection[str], *, now: datetime) -> None:
        """Count work that broke off in ready instances, perhaps because they have just ended."""
        is_recent = Case(When(broke_off_at__gte=now - BROKE_OFF_WITHIN, then=F("broke_off") + 1), default=1)
        self.filter(pk__in=names, state=State.READY).update(broke_off=is_recent, broke_off_at=now)

    def restart_idle_clock(self, row: "Instance", *, now: datetime) -> bool:
        """Begin the idle time of a ready instance anew."""
        return self._compare_and_swap(row, last_used=now)

    def note_exit(self, name: str, incarnation: str, *, exit: dict[str, Any]) -> None:
        """Keep the failed end of an incarnation, unless the instance has been started again since."""
        self.filter(pk=name, incarnation=incarnation).exclude(state=State.STARTING).update(exit=exit)

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


class Instance(models.Model):
    """A container (or local process) that can sleep, known by its name."""

    name = models.CharField(max_length=255, primary_key=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.ASLEEP)
    #: When it entered its state; in a claim, when it was claimed (wall time).
    since = models.DateTimeField()
    #: Counts the changes of this row.
    version = models.PositiveBigIntegerField(default=0)
    #: Counts the starts. A late answer about an earlier run is ignored.
    run = models.PositiveBigIntegerField(default=0)
    #: The worker that owns the claim, while starting or stopping.
    owner = models.UUIDField(null=True, blank=True)
    #: Who ordered its latest claim, why and what for: an `Order` of `lifecycle.transitions.orders`.
    ordered = models.JSONField(null=True, blank=True)
    #: The names of the instances that it needs, as its labels said at its latest claim or at the last look.
    needs = models.JSONField(default=list, blank=True, db_default=[])
    #: Whether its latest claim stopped or started it, or paused or resumed it. While it sleeps: whether it is paused.
    mode = models.CharField(max_length=8, choices=Mode.choices, default=Mode.STOP, db_default=Mode.STOP)
    #: What the engine ran last, according to the latest inspection; while starting, what it ran before the claim.
    incarnation = models.CharField(max_length=255, blank=True, default="")
    #: Whether the readiness probe has succeeded for that incarnation. False if others started it.
    probed = models.BooleanField(default=False)
    #: The host and port at which that incarnation answered the probe. None: it has no port.
    address = models.JSONField(null=True, blank=True)
    #: The idle clock: when its last work ended, or when it was first seen ready.
    last_used = models.DateTimeField(null=True, blank=True)
    #: How long it had been idle when its stop was claimed.
    idle_seconds = models.PositiveBigIntegerField(null=True, blank=True)
    #: Its latest failed start: {"run", "at", "error", "cause", "exit_code", "log_tail"}, without what is not known.
    failure = models.JSONField(null=True, blank=True)
    #: The series of failed stops that has not ended yet: {"at", "error", "tries", "next_try"}, about the latest one.
    stop_failure = models.JSONField(null=True, blank=True)
    #: How its latest run ended if that was a failure and it has not been ready since: the event's data and "at".
    exit = models.JSONField(null=True, blank=True)
    #: How many of its runs in a row ended by themselves soon after they were ready, and before any work.
    short_lives = models.PositiveIntegerField(default=0, db_default=0)
    #: Whether its latest run has had work.
    has_worked = models.BooleanField(default=False, db_default=False)
    #: Whether others started its present incarnation.
    adopted = models.BooleanField(default=False, db_default=False)
    #: How many pieces of work broke off, the latest at `broke_off_at`, each soon after the one before.
    broke_off = models.PositiveBigIntegerField(default=0, db_default=0)
    broke_off_at = models.DateTimeField(null=True, blank=True)

    #: Until when it is not put to sleep although it is idle. None: no caller decided that, or it was put to sleep.
    awake_until = models.DateTimeField(null=True, blank=True)
    #: Who decided that: {"by", "by_kind"}.
    awake_by = models.JSONField(null=True, blank=True)
    #: Why nothing can be dispatched to it: {"at", "reason", "force", "by", "by_kind"}. None: it is enabled.
    disabled = models.JSONField(null=True, blank=True)

    #: Whether the engine had it at the last look.
    present = models.BooleanField(default=True)
    #: When the engine was first seen without it. None: the engine has it.
    absent_since = models.DateTimeField(null=True, blank=True)
    #: What is wrong with its labels. Nothing can be dispatched to it until that is mended.
    label_error = models.TextField(blank=True, default="")
    #: What is questionable about its labels.
    label_warning = models.TextField(blank=True, default="")
    #: Its idle timeout at the last look. None: it is never put to sleep.
    idle_timeout = models.DurationField(null=True, blank=True)

    objects = InstanceQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        permissions = [
            ("dispatch_instance", "Can dispatch work to an instance"),
            ("control_instance", "Can put an instance to sleep, disable it and enable it"),
        ]

    def __str__(self) -> str:
        return self.name

    def check_enabled(self) -> None:
        """Raise Disabled if the instance is disabled."""
        if self.disabled:
            raise Disabled(self.name, self.disabled["reason"], self.disabled.get("by", ""))

    @property
    def is_started_while_disabled(self) -> bool:
        """True if a person started the instance although it is disabled."""
        if not self.disabled or not self.adopted:
            return False
        return self.since >= datetime.fromisoformat(self.disabled["at"])

    @property
    def is_paused(self) -> bool:
        """True if it sleeps and its processes are in memory."""
        return self.state == State.ASLEEP and self.mode == Mode.PAUSE

    def count_short_lives(self, now: datetime) -> int:
        """Return its short lives in a row. A ready instance counts as one that has just ended."""
        if self.state != State.READY:
            return self.short_lives
        is_short = not self.has_worked and abs(now - self.since) < SHORT_LIFE
        return self.short_lives + 1 if is_short else 0

    @property
    def next_stop_try(self) -> datetime | None:
        """The time of the next try to stop an instance. None: the latest stop did not fail."""
        return datetime.fromisoformat(self.stop_failure["next_try"]) if self.stop_failure else None


def find_dependents(rows: Iterable[Instance]) -> dict[str, list[str]]:
    """Return the names of the instances that awake ones among `rows` need, each with the names of those."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.state != State.ASLEEP:
            for needed in row.needs:
                found[needed].append(row.name)
    return found


class Worker(models.Model):
    """One Dormouse process: web, supervisor or command. See `lifecycle.workers.heartbeats`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    kind = models.CharField(max_length=32)
    #: The boot and the pid namespace in which `pid` means something. Empty if the system does not tell.
    home = models.CharField(max_length=255, blank=True)
    pid = models.PositiveIntegerField()
    #: The start time of the process, in clock ticks since boot. A pid alone may be given out again.
    pid_started = models.CharField(max_length=32, blank=True)
    #: Counts its heartbeats.
    heartbeat = models.PositiveBigIntegerField(default=0, db_column="beat")
    started = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.kind} {self.pid}"


class Lease(models.Model):
    """The proof that work is in flight in an instance."""

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="leases")
    worker = models.UUIDField()
    since = models.DateTimeField()
    #: Who ordered the work and what for: the caller of an `Order`.
    ordered = models.JSONField(null=True, blank=True)

    #: Whether its work broke off. This is no column: it is used when the lease ends.
    broke_off = False

    def __str__(self) -> str:
        return f"{self.instance_id} since {self.since:%H:%M:%S}"


class EndNote(models.Model):
    """A dispatch found that an instance has ended by itself. A supervisor tells that, and removes the note."""

    incarnation = models.CharField(max_length=255, unique=True)
    at = models.DateTimeField()
    #: A `RunEnd` of `lifecycle.transitions.ending`.
    end = models.JSONField()

    def __str__(self) -> str:
        return self.incarnation


class WorkFailure(models.Model):
    """The failures of work in an instance with one status: what the latest event did not tell of."""

    instance = models.CharField(max_length=255)
    status = models.PositiveSmallIntegerField()
    #: When the latest event of this kind was told. None: there was none.
    told_at = models.DateTimeField(null=True, blank=True)
    #: How many failures no event has told of.
    count = models.PositiveBigIntegerField(default=0)
    #: The event's data of the latest failure.
    latest = models.JSONField(default=dict)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["instance", "status"], name="lifecycle_workfailure_kind")]

    def __str__(self) -> str:
        return f"{self.instance} {self.status}"


class EngineStatus(models.Model):
    """The supervisor's last look at an engine: one row. Pages read it, and never ask the engine."""

    engine = models.CharField(max_length=16, primary_key=True)
    #: When the engine last answered.
    answered = models.DateTimeField(null=True, blank=True)
    #: When it was last asked.
    asked = models.DateTimeField()
    #: Why it does not answer, as a sentence for a person. Empty while it does.
    error = models.TextField(blank=True, default="")
    #: A sentence for each container that is nearly labelled as an agent.
    near_misses = models.JSONField(blank=True, default=list)

    class Meta:
        db_table = "lifecycle_enginesight"
        verbose_name_plural = "engine statuses"

    def __str__(self) -> str:
        return self.engine
