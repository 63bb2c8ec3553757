"""What the templates need: icons, moments with their zone, and text from containers made safe to look at."""

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from agents_ui.icons import BRAND, ICONS
from agents_ui.timeline import Activity, Filter
from agents_ui.zones import abbreviation, offset
from events.invisible import escape_invisible

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """A drawing beside words that say the same."""
    drawing = mark_safe(ICONS[name])  # noqa: S308  # our own
    return format_html('<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">{}</svg>', drawing)


@register.simple_tag
def brand() -> SafeString:
    return mark_safe(BRAND.replace("<svg", '<svg class="mark-of-dormouse" aria-hidden="true"', 1))  # noqa: S308  # our own


@register.filter
def visible(value: object) -> str:
    """Text from a container, with what could not be seen in it made visible."""
    return escape_invisible(str(value))


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
    day = "" if local.date() == timezone.localdate() else f"{local.day} {local:%b %Y}, "
    return format_html('<time datetime="{}">{}{}</time>', local.isoformat(), day, clock(local))


@register.filter
def stamp(value: datetime) -> SafeString:
    """`14:02:11 IST` under the heading of its day. Whoever copies it has `2026-11-23 14:02:11 IST (UTC+5:30)`."""
    local = timezone.localtime(value)
    return format_html(
        '<time datetime="{}"><span class="copied">{} </span>{}<span class="copied">{}</span></time>',
        local.isoformat(),
        local.date(),
        clock(local),
        distance(local),
    )


@register.filter
def at_length(value: datetime) -> SafeString:
    """`Monday 23 November 2026, 14:02:11 IST (UTC+5:30)`."""
    local = timezone.localtime(value)
    text = f"{local:%A} {local.day} {local:%B %Y}, {clock(local)}{distance(local)}"
    return format_html('<time datetime="{}">{}</time>', local.isoformat(), text)


def clock(local: datetime) -> str:
    return f"{local:%H:%M:%S} {abbreviation(local)}"


def distance(local: datetime) -> str:
    """What an abbreviation leaves open: IST is the time of India, of Israel and of Ireland."""
    return "" if abbreviation(local).startswith("UTC") else f" ({offset(local)})"


@register.simple_tag
def older_query(chosen: Filter, activity: Activity) -> str:
    """The query of the page below `activity`, with the same filter."""
    return chosen.query(before=activity.rows[-1].event.id if activity.rows else 0)
