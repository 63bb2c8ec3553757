"""The audit: every event, newest first, for staff who may view events. Nothing can be changed here."""

import json
from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator, smart_split, unescape_string_literal

from events import event_types
from events.invisible import escape_invisible
from events.log import replace_unstorable
from events.models import EventLog

admin.site.site_header = admin.site.site_title = "Dormouse"
admin.site.index_title = "Audit"

MAX_SENTENCE_CHARACTERS = 300


class ShortPaginator(Paginator):  # type: ignore[type-arg]  # cannot be subscripted when it runs
    """A paginator that counts no further than its limit. Older events are found by filter and search."""

    LIMIT = 10_000

    @cached_property
    def count(self) -> int:
        """Return the number of events, or LIMIT if there are more."""
        assert isinstance(self.object_list, QuerySet)
        return self.object_list.order_by()[: self.LIMIT].count()


class ValueFilter(admin.SimpleListFilter):
    """A filter by the values that occur in an indexed field. Its menu is made without reading the whole table."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """Return the menu: each value with its title."""
        return [(value, self.title_of(value)) for value in self.values()]

    def values(self) -> list[str]:
        """Return the values of the menu."""
        return EventLog.objects.values_of(str(self.parameter_name))

    def title_of(self, value: str) -> str:
        """Return what the menu shows for a value."""
        return escape_invisible(value)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the events that have the chosen value."""
        value = self.value()
        return queryset.filter(**{str(self.parameter_name): replace_unstorable(value)}) if value else queryset


class TypeFilter(ValueFilter):
    """A filter by event type. Its menu also holds the types that have not occurred yet."""

    title = parameter_name = "type"

    def values(self) -> list[str]:
        """Return the known types, and those that occur."""
        return sorted({*event_types.DISPLAYS, *super().values()})

    def title_of(self, value: str) -> str:
        """Return the type's title."""
        return event_types.display_of(value).title


class InstanceFilter(ValueFilter):
    """A filter by instance."""

    title = parameter_name = "instance"


def _contains(word: str) -> Q:
    """Return the condition that `word` occurs. In the data it may be escaped: SQLite keeps `ü` as its code."""
    found = Q(type__icontains=word) | Q(instance__icontains=word)
    for is_ascii in (True, False):
        found |= Q(data__icontains=json.dumps(word, ensure_ascii=is_ascii)[1:-1])
    return found


@admin.register(EventLog)
class EventLogAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The list and the page of events."""

    list_display = ["when", "what", "about", "sentence"]
    list_display_links = ["when", "sentence"]
    list_filter = [TypeFilter, InstanceFilter, "at"]
    search_fields = ["type", "instance", "data"]  # shows the field for a search; get_search_results searches
    search_help_text = "Searches type, instance and data."
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = ShortPaginator
    ordering = ["-id"]
    fields = ["id", "when", "type", "about", "sentence", "page", "pretty_data"]

    class Media:
        css = {"all": ["events/audit.css"]}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[EventLog], search_term: str
    ) -> tuple[QuerySet[EventLog], bool]:
        """Return the events in which every word occurs, or every phrase in quotation marks."""
        for bit in smart_split(search_term):
            word = unescape_string_literal(bit) if bit[0] in "'\"" and bit[0] == bit[-1] else bit
            queryset = queryset.filter(_contains(replace_unstorable(word)))
        return queryset, False

    @admin.display(description="at", ordering="id")
    def when(self, event: EventLog) -> str:
        """Return when it happened."""
        return f"{event.at:%Y-%m-%d %H:%M:%S} UTC"

    @admin.display(description="type", ordering="type")
    def what(self, event: EventLog) -> str:
        """Return the title of the type."""
        return event_types.display_of(event.type).title

    @admin.display(description="instance", ordering="instance", empty_value="")
    def about(self, event: EventLog) -> str:
        """Return the instance's name."""
        return escape_invisible(event.instance)

    @admin.display(description="event")
    def sentence(self, event: EventLog) -> str:
        """Return the event as a sentence, cut if it is long."""
        return Truncator(escape_invisible(event_types.sentence_of(event))).chars(MAX_SENTENCE_CHARACTERS)

    @admin.display(description="page")
    def page(self, event: EventLog) -> SafeString:
        """Return a link to the event's own page, which says what to do and what came before."""
        return format_html('<a href="{}">This event on the page</a>', reverse("event", args=[event.pk]))

    @admin.display(description="data")
    def pretty_data(self, event: EventLog) -> SafeString:
        """Return the data as indented JSON."""
        text = json.dumps(event.data, indent=2, ensure_ascii=False)
        return format_html('<pre class="data">{}</pre>', escape_invisible(text))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: only Dormouse and its apps record events."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: EventLog | None = None) -> bool:
        """Return False: the log is append-only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: EventLog | None = None) -> bool:
        """Return False: only `manage.py prune_events` removes old events."""
        return False
