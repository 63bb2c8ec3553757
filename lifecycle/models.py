"""What Dormouse knows of its instances, and which of its processes holds what.

One row an instance. Every change of state is one conditional UPDATE (`InstanceQuerySet.change`): who changed the row
owns the transition.
"""

import uuid
from typing import Any

from django.db import models
from django.db.models import F


class State(models.TextChoices):
    """What an instance is doing, as far as Dormouse knows."""

    ASLEEP = "asleep", "asleep"
    STARTING = "starting", "starting"
    READY = "ready", "ready"
    STOPPING = "stopping", "stopping"


class InstanceQuerySet(models.QuerySet["Instance"]):
    def change(self, row: "Instance", **values: Any) -> bool:
        """Compare and swap: writes `values` where the row is still as `row` was read; then `row` is up to date.

        False when somebody else changed it meanwhile: nothing was written, and `row` is out of date.
        """
        unchanged = self.filter(pk=row.pk, state=row.state, version=row.version)
        if not unchanged.update(version=F("version") + 1, **values):
            return False
        row.version += 1
        for name, value in values.items():
            setattr(row, name, value)
        return True


class Instance(models.Model):
    """A container (or local process) that can sleep, by its name."""

    name = models.CharField(max_length=255, primary_key=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.ASLEEP)
    #: When it entered its state; for a claim, when it was claimed (wall time).
    since = models.DateTimeField()
    #: Counts the changes of this row.
    version = models.PositiveBigIntegerField(default=0)
    #: Counts the awakenings. A late answer about an earlier run is ignored.
    run = models.PositiveBigIntegerField(default=0)
    #: The worker that owns the claim, while starting or stopping.
    owner = models.UUIDField(null=True, blank=True)
    #: What the engine ran last, as far as seen; while starting, what was seen before the claim.
    incarnation = models.CharField(max_length=255, blank=True, default="")
    #: Whether the readiness probe has succeeded for that incarnation. False for one found running.
    probed = models.BooleanField(default=False)
    #: The idle clock: when its last work ended, or when it was first seen ready.
    last_used = models.DateTimeField(null=True, blank=True)
    #: The idle time at the claim of its stop.
    idle_seconds = models.PositiveBigIntegerField(null=True, blank=True)
    #: Its latest failed start: {"run", "at", "error", "cause", "exit_code", "log_tail"}, where known.
    failure = models.JSONField(null=True, blank=True)

    #: Whether the engine had it at the last look.
    present = models.BooleanField(default=True)
    #: What is wrong with its labels; it cannot be dispatched to until that is mended.
    label_error = models.TextField(blank=True, default="")
    #: What is questionable about them.
    label_warning = models.TextField(blank=True, default="")
    #: Its idle timeout at the last look; None: it is never put to sleep.
    idle_timeout = models.DurationField(null=True, blank=True)

    objects = InstanceQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        permissions = [("dispatch_instance", "Can dispatch work to an instance")]

    def __str__(self) -> str:
        return self.name


class Worker(models.Model):
    """One Dormouse process: web, supervisor or command. See `lifecycle.workers.heartbeats`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    kind = models.CharField(max_length=32)
    #: The boot and the pid namespace that `pid` means something in; empty where the system does not tell.
    home = models.CharField(max_length=255, blank=True)
    pid = models.PositiveIntegerField()
    #: The start time of that pid, in clock ticks since boot: a pid alone may be given out again.
    pid_started = models.CharField(max_length=32, blank=True)
    beat = models.PositiveBigIntegerField(default=0)
    started = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.kind} {self.pid}"


class Lease(models.Model):
    """The proof that work is in flight in an instance."""

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="leases")
    worker = models.UUIDField()
    since = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.instance_id} since {self.since:%H:%M:%S}"


class EngineSight(models.Model):
    """The supervisor's last look at the engine: one row. Pages read it and never ask the engine."""

    engine = models.CharField(max_length=16, primary_key=True)
    #: When the engine last answered.
    answered = models.DateTimeField(null=True, blank=True)
    #: When it was last asked.
    asked = models.DateTimeField()
    #: Why it does not answer, for a person; empty while it does.
    error = models.TextField(blank=True, default="")

    def __str__(self) -> str:
        return self.engine
