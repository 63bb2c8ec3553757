"""The cursor with which a reader asks to continue."""

import re

from django.http import HttpRequest

#: `42`, or `events:42` as django-eventstream writes it. No database ever gave out an id with more digits.
CURSOR = re.compile(r"(?:events:)?([0-9]{1,18})", re.ASCII)
MAX_SHOWN_CHARACTERS = 100


def requested_cursor(request: HttpRequest) -> int | str | None:
    """Return the cursor that `request` names, or None if it names none.

    If the text is no cursor, return the text, cut to MAX_SHOWN_CHARACTERS.
    """
    text = request.headers.get("Last-Event-ID") or request.GET.get("lastEventId") or request.GET.get("after")
    if not text:
        return None
    found = CURSOR.fullmatch(text.strip())
    return int(found[1]) if found else text[:MAX_SHOWN_CHARACTERS]
