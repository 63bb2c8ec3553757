"""`/api/events`: the log as JSON, and how a program records an event of its own."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from access.identity.tokens import limits_of
from access.identity.users import signature_of
from access.json_bodies import Invalid, read_json
from access.permissions import ADD_EVENTS, VIEW_EVENTS
from access.problems import ProblemResponse, csrf_problem, refusal
from events.event_types import is_failure, sentence_of
from events.log import record, replace_unstorable
from events.models import EventLog
from events.stream.cursors import MAX_DIGITS, parse_event_id

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
#: Types that Dormouse alone records.
OWN_TYPES = ("container.", "work.", "dormouse.", "stream-")
MEMBERS = {"type": str, "instance": str, "data": dict}


@csrf_exempt  # csrf_problem checks it
@require_http_methods(["GET", "HEAD", "POST"])
def events(request: HttpRequest) -> HttpResponse:
    """Answer `GET /api/events`, a page of the log, and `POST /api/events`, which records an event."""
    try:
        return _record(request) if request.method == "POST" else _read(request)
    except Invalid as error:
        return ProblemResponse(error.status, str(error))


def _read(request: HttpRequest) -> HttpResponse:
    names, types = (_values(request, field) for field in ("instance", "type"))
    refused = refusal(request.user, request.user.has_perm(VIEW_EVENTS), VIEW_EVENTS, *names)
    if refused:
        return refused
    after = _number(request, "after")
    limit = _number(request, "limit")
    if limit is not None and not 1 <= limit <= MAX_LIMIT:
        raise Invalid(400, f"limit is a number from 1 to {MAX_LIMIT}.")
    return JsonResponse(_page(after, limit or DEFAULT_LIMIT, names or sorted(limits_of(request.user)), types))


def _page(after: int | None, limit: int, instances: list[str], types: list[str]) -> dict[str, Any]:
    """Return the events after a cursor, the next cursor, and whether events between may be missing (`reset`).

    The end of the log is read first: with a filter, the next cursor may be behind events that did not match.
    """
    oldest, latest = EventLog.objects.bounds()
    start = min(after or 0, latest)
    rows, floor = EventLog.objects.after(start).matching(instances, types)[:limit].read()
    end = rows[-1].id if len(rows) == limit else max([latest, *(row.id for row in rows[-1:])])
    is_lost = after is not None and not floor <= after <= latest
    return {
        "events": [describe(row) for row in rows if row.id > floor],  # others are being pruned
        "next": max(end, floor),
        "reset": {"requested": after, "oldest": oldest, "latest": latest} if is_lost else None,
    }


def describe(row: EventLog) -> dict[str, Any]:
    """Return an event as the JSON API shows it."""
    return {
        "id": row.id,
        "type": row.type,
        "instance": row.instance or None,
        "at": row.payload()["at"],
        "data": row.data,
        "sentence": sentence_of(row),
        "failure": is_failure(row),
    }


def _record(request: HttpRequest) -> HttpResponse:
    user = request.user
    refused = refusal(user, user.has_perm(ADD_EVENTS), ADD_EVENTS) or csrf_problem(request)
    if refused:
        return refused
    sent = _body(request)
    instance: str = sent.get("instance", "")
    refused = refusal(user, True, ADD_EVENTS, instance)
    if refused:
        return refused
    data = {name: value for name, value in sent.get("data", {}).items() if name != "at"}
    try:
        row = record(sent["type"], instance=instance, data=data | signature_of(user))
    except ValueError as error:
        raise Invalid(422, f"{error}.") from None
    return JsonResponse(describe(row), status=201)


def _body(request: HttpRequest) -> dict[str, Any]:
    """Return the event that was sent. Raises Invalid."""
    sent = read_json(request)
    if "type" not in sent:
        raise Invalid(422, "An event is an object with a type.")
    for name, value in sent.items():
        if not isinstance(value, MEMBERS.get(name, ())):
            raise Invalid(422, f"An event has type and instance, which are texts, and data, an object: not {name!r}.")
    if sent["type"].startswith(OWN_TYPES):
        raise Invalid(422, f"Dormouse alone records types that begin with {', '.join(OWN_TYPES)}.")
    return sent


def _values(request: HttpRequest, field: str) -> list[str]:
    return [replace_unstorable(value) for value in request.GET.getlist(field) if value]


def _number(request: HttpRequest, field: str) -> int | None:
    """Return a number of the query; None if it is not there. Raises Invalid."""
    text = request.GET.get(field)
    if text is None:
        return None
    number = parse_event_id(text)
    if number is None:
        raise Invalid(400, f"{field} is a number of at most {MAX_DIGITS} digits.")
    return number
