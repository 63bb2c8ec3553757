"""What Dormouse knows at present, for staff to look at. No form changes it, because the engine decides it."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from access.read_only_admin import ReadOnlyAdmin
from lifecycle.models import EngineStatus, Instance, Lease, Worker


@admin.register(Instance)
class InstanceAdmin(ReadOnlyAdmin):
    """The instances."""

    list_display = ["name", "state", "since", "last_used", "present", "label_error"]
    list_filter = ["state", "present"]
    search_fields = ["name"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return all fields, after a link to the instance's events on the page."""
        return ["page", *super().get_fields(request, obj)]

    @admin.display(description="page")
    def page(self, row: Instance) -> SafeString:
        """Return a link to the instance's events."""
        address = f"{reverse('agents')}?{urlencode({'instance': row.name})}#activity-heading"
        return format_html('<a href="{}">Its latest activity</a>', address)


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
