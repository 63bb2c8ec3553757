"""What Dormouse knows of its instances, and which of its processes holds what.

An instance has one row. Each change of that row goes through a named method of `InstanceQuerySet`, in
`lifecycle/state_machine.py`.
"""

import uuid
from datetime import datetime

from django.db import models

from lifecycle.exceptions import Disabled
from lifecycle.state_machine import SHORT_LIFE, InstanceQuerySet, Mode, State

#: A lease tells at most so many texts of what its work is for.
MAX_PURPOSES = 10


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
    #: Who ordered its latest claim, why and what for: an `Order` of `lifecycle.orders`.
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
    #: Its latest failed work if no work has succeeded since: {"at", "error", "status"}.
    work_failure = models.JSONField(null=True, blank=True)
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


class LeaseQuerySet(models.QuerySet["Lease"]):
    """Questions about leases."""

    def count_works(self) -> int:
        """Return how many pieces of work these leases stand for."""
        return self.aggregate(total=models.Sum("works"))["total"] or 0


class Lease(models.Model):
    """The proof that work of one worker is in flight in an instance. It may stand for several pieces of work."""

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="leases")
    #: The incarnation that the work was sent to. If containers are renamed, it tells which of them has the work.
    incarnation = models.CharField(max_length=255, blank=True, default="", db_default="")
    worker = models.UUIDField()
    #: How many pieces of work it stands for. This may be a second old.
    works = models.PositiveIntegerField(default=1, db_default=1)
    #: When the oldest of them began.
    since = models.DateTimeField()
    #: Who ordered the oldest of them, and what for: the caller of an `Order`.
    ordered = models.JSONField(null=True, blank=True)
    #: What they are for: at most MAX_PURPOSES different texts.
    purposes = models.JSONField(default=list, blank=True, db_default=[])

    objects = LeaseQuerySet.as_manager()

    #: How many of them broke off. This is no column: it is used when the lease ends.
    broke_off = 0

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


class Installation(models.Model):
    """Say which installation this database belongs to, in one row. Its web processes and supervisors share it."""

    #: Always 1, so that two processes cannot make two rows.
    id = models.SmallIntegerField(primary_key=True, default=1)
    #: What the mark at the engine says.
    identity = models.UUIDField(default=uuid.uuid4, editable=False)

    def __str__(self) -> str:
        return str(self.identity)

    @classmethod
    def read_identity(cls) -> uuid.UUID:
        """Return the identity of this database's installation. The first call makes it."""
        return cls.objects.get_or_create(id=1)[0].identity


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
    #: Which other installation manages the instances of this engine and scope, as sentences. Empty: this one does.
    neighbour = models.TextField(blank=True, default="", db_default="")
    #: What is said of another installation that leaves the instances alone, because this one manages them.
    refused_neighbour = models.TextField(blank=True, default="", db_default="")

    class Meta:
        db_table = "lifecycle_enginesight"
        verbose_name_plural = "engine statuses"

    def __str__(self) -> str:
        return self.engine
