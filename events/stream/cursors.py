"""The ids of events as readers write them, and the cursor with which a reader asks to continue."""

from django.http import HttpRequest

#: No database ever gave out an id with more digits.
MAX_DIGITS = 18
MAX_SHOWN_CHARACTERS = 100


def parse_event_id(text: str) -> int | None:
    """Return the id of an event. None: the text is no number, or one that the database cannot hold."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


def requested_cursor(request: HttpRequest) -> int | str | None:
    """Return the cursor that `request` names, or None if it names none.

    If the text is no cursor, return the text, cut to MAX_SHOWN_CHARACTERS.
    """
    text = request.headers.get("Last-Event-ID") or request.GET.get("lastEventId") or request.GET.get("after")
    if not text:
        return None
    id = parse_event_id(text.strip().removeprefix("events:"))  # django-eventstream writes `events:42`
    return text[:MAX_SHOWN_CHARACTERS] if id is None else id
