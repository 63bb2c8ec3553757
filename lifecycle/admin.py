"""What Dormouse knows at present, for staff to look at. No form changes it, because the engine decides it."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from lifecycle.models import EngineStatus, Instance, Lease, Worker


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # cannot be subscripted when it runs
    """An admin in which no user adds, changes or deletes anything, not even a superuser."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False


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
