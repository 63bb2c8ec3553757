"""The reader's time zone. A cookie that the page's script sets names it, and it is checked here."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import wraps
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

COOKIE = "zone"
NAME = re.compile(r"[A-Z][A-Za-z0-9_+-]{1,30}(/[A-Za-z0-9_+-]{1,30}){0,2}")


def readers_zone(request: HttpRequest) -> tzinfo:
    """Return the zone that the cookie names, or UTC if there is no cookie or no such zone."""
    name = request.COOKIES.get(COOKIE, "")
    if not NAME.fullmatch(name):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name is that of a folder of zones
        return UTC


def in_readers_zone(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Decorate a view so that its template shows times in the reader's zone."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        with timezone.override(readers_zone(request)):
            return view(request, *args, **kwargs)

    return answer


def abbreviation(local: datetime) -> str:
    """Return the zone's letters, such as `CET`, or `UTC+3` because many zones have no letters of their own."""
    name = local.tzname() or ""
    return name if name.isalpha() else utc_offset(local)


def utc_offset(local: datetime) -> str:
    """Return the offset, such as `UTC+5:30`."""
    minutes = round((local.utcoffset() or timedelta()).total_seconds() / 60)
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'-' if minutes < 0 else '+'}{hours}" + (f":{rest:02}" if rest else "")
