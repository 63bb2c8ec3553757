"""What the templates need: icons, moments with their zone, and text from containers made safe to look at."""

from datetime import datetime

from django import template
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from agents_ui.icons import ICONS
from agents_ui.timeline import Filter
from events import legible

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """A drawing beside words that say the same."""
    drawing = mark_safe(ICONS[name])  # noqa: S308  # our own
    return format_html('<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">{}</svg>', drawing)


@register.filter
def visible(value: object) -> str:
    """Text from a container, with what could not be seen in it made visible."""
    return legible.legible(str(value))


@register.filter
def head(value: str, length: int) -> str:
    """At most `length` characters, and an ellipsis where there were more."""
    return value if len(value) <= length else value[:length].rstrip() + "…"


@register.filter
def tail(value: str, length: int) -> str:
    """The last `length` characters, from the beginning of a line where there is one, after an ellipsis if cut."""
    if len(value) <= length:
        return value
    kept = value[-length:]
    _, newline, lines = kept.partition("\n")
    return "…\n" + (lines if newline and lines else kept)


@register.filter
def moment(value: datetime) -> SafeString:
    """`14:02:11 UTC`, with the date before it unless that is today."""
    local = timezone.localtime(value)
    pattern = "H:i:s T" if local.date() == timezone.localdate() else "j M Y, H:i:s T"
    return format_html('<time datetime="{}">{}</time>', local.isoformat(), formats.date_format(local, pattern))


@register.simple_tag
def older_query(chosen: Filter, before: int) -> str:
    """The query of the page below the event `before`, with the same filter."""
    return chosen.query(before=before)
