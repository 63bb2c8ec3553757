"""The reader's time zone: a cookie that the page's script sets names it, and it is checked here."""

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


def zone(request: HttpRequest) -> tzinfo:
    """UTC until the script has said another, and for any name that is no zone's."""
    name = request.COOKIES.get(COOKIE, "")
    if not NAME.fullmatch(name):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones is an OSError
        return UTC


def in_readers_zone(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Whatever `view` draws, it draws in the reader's zone."""

    @wraps(view)
    def draw(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        with timezone.override(zone(request)):
            return view(request, *args, **kwargs)

    return draw


def abbreviation(local: datetime) -> str:
    """`CET`; `UTC+3` for the many zones that have no letters of their own."""
    name = local.tzname() or ""
    return name if name.isalpha() else offset(local)


def offset(local: datetime) -> str:
    """`UTC+5:30`."""
    minutes = round((local.utcoffset() or timedelta()).total_seconds() / 60)
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'-' if minutes < 0 else '+'}{hours}" + (f":{rest:02}" if rest else "")
