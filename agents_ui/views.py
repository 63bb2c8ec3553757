"""The Agents page, and the two fragments of it that its script asks for. Looking never wakes anything."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required, permission_required
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import conditional_page, require_safe

from access.permissions import VIEW_EVENTS
from access.problems import ProblemResponse, refusal
from agents_ui import timeline
from agents_ui.instances import cards, sight
from agents_ui.timeline import Filter, Row
from agents_ui.zones import in_readers_zone
from events.event_types import DISPLAYS, display_of
from events.models import EventLog
from lifecycle.models import Instance

View = Callable[..., HttpResponse]


def page(view: View) -> View:
    """A page for people: the login for those signed out, the 403 page for those who may not see it."""
    permitted = permission_required(VIEW_EVENTS, raise_exception=True)(in_readers_zone(view))
    return require_safe(gzip_page(never_cache(login_required(permitted))))


def fragment(view: View) -> View:
    """A part of a page for a script, which cannot follow a redirect to the login: problems instead."""

    drawn = in_readers_zone(view)

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return refusal(request.user, request.user.has_perm(VIEW_EVENTS), VIEW_EVENTS) or drawn(request, *args, **kwargs)

    return require_safe(gzip_page(cache_control(private=True, no_cache=True)(answer)))


@page
def agents(request: HttpRequest) -> HttpResponse:
    """`GET /agents/`: the instances and the latest activity; with `?before=` older activity alone."""
    chosen = Filter.of(request.GET)
    context = {"filter": chosen, "everything": Filter(chosen.instances, chosen.types), **choices(chosen)}
    context["failures"] = Filter(chosen.instances, chosen.types, failures=True)
    if "before" in request.GET:
        before = event_id(request.GET["before"])
        if before is None:
            raise BadRequest("before is the id of an event")
        return render(request, "agents_ui/older.html", context | {"activity": timeline.older(chosen, before)})
    context |= {"activity": timeline.latest(chosen), "cards": cards(), "sight": sight()}
    return render(request, "agents_ui/agents.html", context)


@fragment
def activity(request: HttpRequest) -> HttpResponse:
    """`GET /agents/activity?after=N`: the rows after a cursor, at most 100, newest first.

    With `Dormouse-Reset` where these are not all that followed the cursor, as the stream has `stream-reset`.
    """
    after = event_id(request.GET.get("after", ""))
    if after is None:
        return ProblemResponse(400, "after is the id of an event: a number, 0 for the whole log.")
    found = timeline.news(Filter.of(request.GET), after)
    response = render(request, "agents_ui/days.html", {"activity": found})
    response["Dormouse-Cursor"] = str(found.cursor)
    response["Dormouse-More"] = "true" if found.more else "false"
    if found.pruned:
        response["Dormouse-Reset"] = "true"
    return response


@page
def event(request: HttpRequest, id: int) -> HttpResponse:
    """`GET /agents/activity/N`: one event, whole."""
    return render(request, "agents_ui/event.html", {"row": Row(get_object_or_404(EventLog, pk=id))})


@fragment
@conditional_page
def instances(request: HttpRequest) -> HttpResponse:
    """`GET /agents/instances`: what the page shows of the instances and the engine, with an ETag."""
    return render(request, "agents_ui/instances.html", {"cards": cards(), "sight": sight()})


def event_id(text: str) -> int | None:
    """None for what cannot be one; at most as long as the database's numbers."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def choices(chosen: Filter) -> dict[str, Any]:
    """The filter's boxes: what there is, and what was asked for even if there is no such thing."""
    names = {*Instance.objects.values_list("name", flat=True), *EventLog.objects.values_of("instance")}
    types = {*DISPLAYS, *EventLog.objects.values_of("type")}
    return {
        "instance_choices": boxes(names, chosen.instances, str),
        "type_choices": boxes(types, chosen.types, lambda type: display_of(type).title),
    }


def boxes(values: Iterable[str], chosen: Iterable[str], title: Callable[[str], str]) -> list[tuple[str, str, bool]]:
    """Value, title, and whether it is ticked."""
    return [(value, title(value), value in chosen) for value in sorted({*values, *chosen})]
