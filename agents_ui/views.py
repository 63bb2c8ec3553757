"""The Agents page, and the two fragments that its script fetches. No view wakes an instance."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required, permission_required
from django.core.exceptions import BadRequest, DisallowedHost, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.middleware.csrf import REASON_BAD_ORIGIN, REASON_NO_CSRF_COOKIE
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import condition, require_safe

from access.identity.tokens import limits_of
from access.permissions import VIEW_EVENTS
from access.problems import ProblemResponse, refusal
from agents_ui import timeline
from agents_ui.event_context import EventContext
from agents_ui.instances import cards_tag, engine_notice, overview, troubled_subscriptions
from agents_ui.timeline import Filter, Row
from agents_ui.zones import in_readers_zone
from events.event_types import DISPLAYS, display_of
from events.models import EventLog
from events.stream.cursors import parse_event_id
from lifecycle import assembly
from lifecycle.models import Instance

View = Callable[..., HttpResponse]


def unlimited(view: View) -> View:
    """Decorate a page that shows all instances: a token for certain instances gets the 403 page."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if limits_of(request.user):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return answer


def page(view: View) -> View:
    """Decorate a page for people: others get the login if they are signed out, else the 403 page."""
    permitted = permission_required(VIEW_EVENTS, raise_exception=True)(unlimited(in_readers_zone(view)))
    return require_safe(gzip_page(never_cache(login_required(permitted))))


def fragment(view: View) -> View:
    """Decorate a part of a page for a script, which gets problems because it cannot follow a redirect to the login."""
    localized = in_readers_zone(view)

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        refused = refusal(request.user, request.user.has_perm(VIEW_EVENTS), VIEW_EVENTS)
        if not refused and limits_of(request.user):
            refused = ProblemResponse(403, "This shows all instances, and the token is for some of them: use /api/.")
        return refused or localized(request, *args, **kwargs)

    return require_safe(gzip_page(cache_control(private=True, no_cache=True)(answer)))


@page
def agents(request: HttpRequest) -> HttpResponse:
    """Answer `GET /agents/`: the instances and the latest activity.

    With `?before=` or `?after=` and the id of an event, only the older or newer activity. `?at=2026-11-26T04:38`, a
    time in the reader's zone, leads to the events at and before it.
    """
    chosen = Filter.from_query(request.GET)
    place = _place(request)
    if request.GET.get("at") or "" in map(request.GET.get, ("q", "at")):  # a form also sends its empty fields
        return redirect(request.path + chosen.query(**place))
    context = {"filter": chosen, "failures": replace(chosen, failures=True), "place": place, **_choices(chosen)}
    if "before" in place:
        return render(request, "agents_ui/older.html", context | {"activity": timeline.older_than(chosen, **place)})
    if "after" in place:
        return render(request, "agents_ui/older.html", context | {"activity": timeline.next_newer(chosen, **place)})
    context |= {"activity": timeline.newest(chosen), **_instances()}
    return render(request, "agents_ui/agents.html", context)


@fragment
def activity(request: HttpRequest) -> HttpResponse:
    """Answer `GET /agents/activity?after=N`: at most 100 rows after a cursor, newest first.

    The header `Dormouse-Reset` says that not all events after the cursor are kept, as `stream-reset` on the stream.
    """
    after = parse_event_id(request.GET.get("after", ""))
    if after is None:
        return ProblemResponse(400, "after is the id of an event: a number, 0 for the whole log.")
    found = timeline.newer_than(Filter.from_query(request.GET), after)
    response = render(request, "agents_ui/days.html", {"activity": found})
    response["Dormouse-Cursor"] = str(found.cursor)
    response["Dormouse-More"] = "true" if found.more else "false"
    if found.pruned:
        response["Dormouse-Reset"] = "true"
    return response


@page
def event(request: HttpRequest, id: int) -> HttpResponse:
    """Answer `GET /agents/activity/N`: one event with all its details."""
    row = Row(get_object_or_404(EventLog, pk=id))
    return render(request, "agents_ui/event.html", {"row": row, "context": EventContext(row.event)})


@fragment
@condition(lambda request: cards_tag())
def instances(request: HttpRequest) -> HttpResponse:
    """Answer `GET /agents/instances`: the page's cards and what it says of the engine, with an ETag.

    The page asks each second, so that `starting` is shown, and the answer is nearly always a 304 without a body.
    """
    return render(request, "agents_ui/instances.html", _instances())


def _place(request: HttpRequest) -> dict[str, int]:
    """Return the place in the log that the query names: `before` or `after` an event, or none. Raises BadRequest."""
    if moment := request.GET.get("at"):
        return {"before": timeline.cursor_at(_parse_moment(moment))}
    for name in ("before", "after"):
        if name in request.GET:
            id = parse_event_id(request.GET[name])
            if id is None:
                raise BadRequest(f"{name} is the id of an event")
            return {name: id}
    return {}


def _parse_moment(text: str) -> datetime:
    """Return the end of the minute (or second) that `text` names in the reader's zone. Raises BadRequest."""
    try:
        moment = datetime.fromisoformat(text)
        unit = timedelta(seconds=1) if text.count(":") > 1 else timedelta(minutes=1)
        return (moment if moment.tzinfo else timezone.make_aware(moment)) + unit
    except (ValueError, OverflowError) as error:
        raise BadRequest("at is a time, such as 2026-11-26T04:38") from error


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that cannot be read. If its host is not allowed, the page names the setting."""
    host = request.headers.get("Host", "") if isinstance(exception, DisallowedHost) else ""
    name = host.rpartition(":")[0] if re.search(r":\d*$", host) else host
    # Without the request, because the context of a page reads its host.
    return HttpResponseBadRequest(render_to_string("400.html", {"host": name}))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form whose CSRF check failed, and say which of its three parts did."""
    origin = request.headers.get("Origin", "")
    context = {
        "origin": origin if reason == REASON_BAD_ORIGIN % origin else "",
        "is_scheme": origin == f"https://{request.headers.get('Host', '')}" and not request.is_secure(),
        "has_no_cookie": reason == REASON_NO_CSRF_COOKIE,
        "host": request.headers.get("Host", ""),
    }
    return render(request, "403_csrf.html", context, status=403)


def _instances() -> dict[str, Any]:
    """Return the cards, and what is wrong with the engine, the database or subscriptions."""
    return {
        "overview": overview(),
        "engine": engine_notice(),
        "database_trouble": assembly.database_trouble(),
        "subscriptions": troubled_subscriptions(),
    }


def _choices(chosen: Filter) -> dict[str, Any]:
    """Return the checkboxes of the filter: what occurs, and what was chosen even if it does not occur."""
    names = {*Instance.objects.values_list("name", flat=True), *EventLog.objects.values_of("instance")}
    types = {*DISPLAYS, *EventLog.objects.values_of("type")}
    return {
        "instance_choices": _checkboxes(names, chosen.instances, str),
        "type_choices": _checkboxes(types, chosen.types, lambda type: display_of(type).title),
    }


def _checkboxes(
    values: Iterable[str], chosen: Iterable[str], title_of: Callable[[str], str]
) -> list[tuple[str, str, bool]]:
    """Return for each value: the value, its title, and whether it is checked."""
    return [(value, title_of(value), value in chosen) for value in sorted({*values, *chosen})]
