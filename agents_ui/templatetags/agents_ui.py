"""What the templates need: icons, times with their zone, and text from containers made safe to look at."""

from datetime import datetime

from django import template
from django.conf import settings
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from agents_ui.icons import BRAND, ICONS
from agents_ui.timeline import Activity, Filter
from agents_ui.zones import abbreviation, utc_offset
from events.event_types import format_duration
from events.invisible import escape_invisible

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """Return a drawing. Screen readers skip it, because the words beside it say the same."""
    drawing = mark_safe(ICONS[name])  # noqa: S308  # our own
    return format_html('<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">{}</svg>', drawing)


@register.simple_tag
def brand() -> SafeString:
    """Return the drawing of the dormouse."""
    return mark_safe(BRAND.replace("<svg", '<svg class="mark-of-dormouse" aria-hidden="true"', 1))  # noqa: S308  # our own


@register.simple_tag
def version() -> str:
    """Return the name and version of this program."""
    return f"Dormouse {settings.DORMOUSE_VERSION}"


@register.simple_tag
def base_path() -> str:
    """Return the path below which everything is served, without a slash at its end."""
    return settings.DORMOUSE_BASE_PATH


@register.filter
def visible(value: object) -> str:
    """Return text from a container, with its invisible characters as escapes."""
    return escape_invisible(str(value))


@register.filter
def head(value: str, length: int) -> str:
    """Return at most the first `length` characters, with an ellipsis if there were more."""
    return value if len(value) <= length else value[:length].rstrip() + "…"


@register.filter
def tail(value: str, length: int) -> str:
    """Return at most the last `length` characters, cut at the beginning of a line, with an ellipsis if there were more.

    If the last line is longer than that, it is cut inside.
    """
    if len(value) <= length:
        return value
    kept = value[-length:]
    _, newline, lines = kept.partition("\n")
    return "…\n" + (lines if newline and lines else kept)


@register.filter
def duration(milliseconds: int) -> str:
    """Return a duration, such as `4.2 s`."""
    return format_duration(milliseconds)


@register.filter
def age(since: datetime, now: datetime) -> str:
    """Return how long ago `since` was, such as `23 min`, or an empty text in the first minute."""
    seconds = int((now - since).total_seconds())
    return format_duration(seconds * 1000) if seconds >= 60 else ""


@register.filter
def time_of_day(value: datetime) -> SafeString:
    """Return `14:02:11 UTC`, with the date before it if that is not today."""
    local = timezone.localtime(value)
    day = "" if local.date() == timezone.localdate() else f"{local.day} {local:%b %Y}, "
    return format_html('<time datetime="{}">{}{}</time>', local.isoformat(), day, _clock(local))


@register.filter
def time_in_day(value: datetime) -> SafeString:
    """Return `14:02:11 IST`, for a row under the heading of its day. A copied row has the date and the offset."""
    local = timezone.localtime(value)
    return format_html(
        '<time datetime="{}"><span class="copied">{} </span>{}<span class="copied">{}</span></time>',
        local.isoformat(),
        local.date(),
        _clock(local),
        _offset_in_brackets(local),
    )


@register.filter
def full_time(value: datetime) -> SafeString:
    """Return `Monday 23 November 2026, 14:02:11 IST (UTC+5:30)`."""
    local = timezone.localtime(value)
    text = f"{local:%A} {local.day} {local:%B %Y}, {_clock(local)}{_offset_in_brackets(local)}"
    return format_html('<time datetime="{}">{}</time>', local.isoformat(), text)


@register.simple_tag
def older_query(chosen: Filter, activity: Activity) -> str:
    """Return the query of the page below `activity`, with the same filter."""
    return chosen.query(before=activity.rows[-1].event.id if activity.rows else 0)


@register.simple_tag
def newer_query(chosen: Filter, activity: Activity) -> str:
    """Return the query of the page above `activity`, with the same filter."""
    return chosen.query(after=activity.rows[0].event.id if activity.rows else activity.cursor - 1)


@register.simple_tag
def filter_query(chosen: Filter, place: dict[str, int]) -> str:
    """Return the query of another filter at the same place in the log."""
    return chosen.query(**place)


def _clock(local: datetime) -> str:
    return f"{local:%H:%M:%S} {abbreviation(local)}"


def _offset_in_brackets(local: datetime) -> str:
    """Return the offset after an abbreviation, because IST is the time of India, of Israel and of Ireland."""
    return "" if abbreviation(local).startswith("UTC") else f" ({utc_offset(local)})"
