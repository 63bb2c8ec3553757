"""Where a reader wants to continue."""

import re

from django.http import HttpRequest

#: `42`, or `events:42` as django-eventstream writes it. Longer numbers are none that a database ever gave out.
CURSOR = re.compile(r"(?:events:)?([0-9]{1,18})", re.ASCII)
SHOWN_CHARACTERS = 100


def requested_cursor(request: HttpRequest) -> int | str | None:
    """The cursor that `request` names, its text (cut short) where that is no cursor, None where it names none."""
    text = request.headers.get("Last-Event-ID") or request.GET.get("lastEventId") or request.GET.get("after")
    if not text:
        return None
    found = CURSOR.fullmatch(text.strip())
    return int(found[1]) if found else text[:SHOWN_CHARACTERS]
