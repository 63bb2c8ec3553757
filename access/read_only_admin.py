"""An admin for rows that no form may change."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

#: A column or field: the name of one of the model, or a function that shows it.
Shown = str | Callable[[Any], Any]


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # cannot be subscripted when it runs
    """An admin in which no user adds, changes or deletes anything, not even a superuser.

    Times are shown with their zone, as in the audit, and JSON is indented.
    """

    class Media:
        css = {"all": ["access/read_only.css"]}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._shown: dict[str, Shown] = {}

    def get_list_display(self, request: HttpRequest) -> Any:
        """Return the columns of the list."""
        return [self._readable(name) for name in super().get_list_display(request)]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the fields of a row's page."""
        fields = super().get_fields(request, obj)
        return fields if self.has_change_permission(request, obj) else [self._readable(name) for name in fields]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False

    def _readable(self, name: Any) -> Shown:
        """Return a function that shows a time or JSON, or the name of any other field."""
        if name not in self._shown:
            self._shown[name] = _show(self.opts, name)
        return self._shown[name]


def _show(options: Any, name: Any) -> Shown:
    try:
        field = options.get_field(name)
    except FieldDoesNotExist:
        return str(name)
    if isinstance(field, models.DateTimeField):
        show: Callable[[Any], Any] = _show_time
    elif isinstance(field, models.JSONField):
        show = _show_json
    else:
        return str(name)

    @admin.display(description=field.verbose_name, ordering=name)
    def value_of(row: Any) -> Any:
        value = getattr(row, name)
        return None if value is None else show(value)

    value_of.__name__ = name
    return value_of


def _show_time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _show_json(value: Any) -> SafeString:
    return format_html('<pre class="data">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))
