"""The audit: every event, newest first, for staff who may view events. Nobody can change the log here."""

import json
from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from events import vocabulary
from events.legible import legible
from events.log import storable
from events.models import EventLog

admin.site.site_header = admin.site.site_title = "Dormouse"
admin.site.index_title = "Audit"


class ShortPaginator(Paginator):  # type: ignore[type-arg]  # cannot be subscripted when it runs
    """Counts no further than its limit: older events are found by filter and search, not by leafing."""

    LIMIT = 10_000

    @cached_property
    def count(self) -> int:
        assert isinstance(self.object_list, QuerySet)
        return self.object_list.order_by()[: self.LIMIT].count()


class ValueFilter(admin.SimpleListFilter):
    """By the values that occur in an indexed field, without reading the whole table for the menu."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(value, self.named(value)) for value in self.values()]

    def values(self) -> list[str]:
        return EventLog.objects.values_of(str(self.parameter_name))

    def named(self, value: str) -> str:
        return legible(value)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset.filter(**{str(self.parameter_name): storable(value)}) if value else queryset


class TypeFilter(ValueFilter):
    title = parameter_name = "type"

    def values(self) -> list[str]:
        return sorted({*vocabulary.WORDS, *super().values()})

    def named(self, value: str) -> str:
        return vocabulary.word(value).title


class InstanceFilter(ValueFilter):
    title = parameter_name = "instance"


@admin.register(EventLog)
class EventLogAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["when", "what", "about", "sentence"]
    list_display_links = ["when", "sentence"]
    list_filter = [TypeFilter, InstanceFilter, "at"]
    search_fields = ["type", "instance", "data"]
    search_help_text = "Searches type, instance and data."
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = ShortPaginator
    ordering = ["-id"]
    fields = ["id", "when", "type", "about", "sentence", "pretty_data"]

    class Media:
        css = {"all": ["events/audit.css"]}

    @admin.display(description="at", ordering="id")
    def when(self, event: EventLog) -> str:
        return f"{event.at:%Y-%m-%d %H:%M:%S} UTC"

    @admin.display(description="type", ordering="type")
    def what(self, event: EventLog) -> str:
        return vocabulary.word(event.type).title

    @admin.display(description="instance", ordering="instance", empty_value="")
    def about(self, event: EventLog) -> str:
        return legible(event.instance)

    @admin.display(description="event")
    def sentence(self, event: EventLog) -> str:
        return Truncator(legible(vocabulary.sentence(event))).chars(300)

    @admin.display(description="data")
    def pretty_data(self, event: EventLog) -> SafeString:
        return format_html('<pre class="data">{}</pre>', legible(json.dumps(event.data, indent=2, ensure_ascii=False)))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: EventLog | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: EventLog | None = None) -> bool:
        return False
