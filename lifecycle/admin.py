"""What Dormouse knows at present, for staff to look at. The engine and the supervisor decide it, not a form."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from lifecycle.models import EngineStatus, Instance, Lease, Worker


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # cannot be subscripted when it runs
    """Nobody adds, changes or deletes, not even a superuser."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Instance)
class InstanceAdmin(ReadOnlyAdmin):
    list_display = ["name", "state", "since", "last_used", "present", "label_error"]
    list_filter = ["state", "present"]
    search_fields = ["name"]


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ["id", "kind", "pid", "started", "heartbeat"]


@admin.register(Lease)
class LeaseAdmin(ReadOnlyAdmin):
    list_display = ["instance", "worker", "since"]


@admin.register(EngineStatus)
class EngineStatusAdmin(ReadOnlyAdmin):
    list_display = ["engine", "asked", "answered", "error"]
