"""What Dormouse knows at present, for staff to look at. No form changes it, because the engine decides it."""

from django.contrib import admin

from access.read_only_admin import ReadOnlyAdmin
from lifecycle.models import EngineStatus, Instance, Lease, Worker


@admin.register(Instance)
class InstanceAdmin(ReadOnlyAdmin):
    """The instances."""

    list_display = ["name", "state", "since", "last_used", "present", "label_error"]
    list_filter = ["state", "present"]
    search_fields = ["name"]


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """The Dormouse processes."""

    list_display = ["id", "kind", "pid", "started", "heartbeat"]


@admin.register(Lease)
class LeaseAdmin(ReadOnlyAdmin):
    """The work in flight."""

    list_display = ["instance", "worker", "since"]


@admin.register(EngineStatus)
class EngineStatusAdmin(ReadOnlyAdmin):
    """The last look at each engine."""

    list_display = ["engine", "asked", "answered", "error"]
