"""The JSON API. Errors are problem details. Permission is decided before it is said whether an instance exists."""

import logging
import os
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from access.identity.tokens import limits_of
from access.identity.users import signature_of
from access.permissions import DISPATCH, VIEW_EVENTS
from access.problems import ProblemResponse, csrf_problem, refusal
from lifecycle import assembly
from lifecycle.api import status
from lifecycle.dispatch.dispatcher import Answer, Work
from lifecycle.engines import HOW_TO_TAKE_PART
from lifecycle.exceptions import LifecycleError, UnknownInstance
from lifecycle.models import EngineStatus, Instance
from lifecycle.transitions.orders import Order, Trigger, read_for

logger = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 1024
#: An agent's answer comes from our origin. A browser may show it, but it may run nothing and read nothing there.
ANSWER_POLICY = "default-src 'none'; sandbox"


@require_safe
def instances(request: HttpRequest) -> HttpResponse:
    """Answer `GET /api/instances`: Dormouse's version, the last look at each engine, and every instance."""
    refused = refusal(request.user, request.user.has_perm(VIEW_EVENTS), VIEW_EVENTS)
    if refused:
        return refused
    engines = EngineStatus.objects.values("engine", "asked", "answered", "error")
    limits = limits_of(request.user)
    rows = Instance.objects.filter(pk__in=limits) if limits else Instance.objects.all()
    described = status.describe(rows, assembly.clock.now())
    return JsonResponse({"version": settings.DORMOUSE_VERSION, "engines": list(engines), "instances": described})


@require_safe
def instance(request: HttpRequest, name: str) -> HttpResponse:
    """Answer `GET /api/instances/NAME`: one instance."""
    refused = refusal(request.user, request.user.has_perm(VIEW_EVENTS), VIEW_EVENTS, name)
    if refused:
        return refused
    rows = Instance.objects.filter(pk=name) if _can_be_a_name(name) else []
    if not rows:
        return _problem_of(_unknown(name))
    return JsonResponse(status.describe(rows, assembly.clock.now())[0])


@csrf_exempt  # csrf_problem checks it
@require_POST
async def dispatch(request: HttpRequest, name: str) -> HttpResponseBase:
    """Answer `POST /api/instances/NAME/dispatch`: wake it, forward the body, and stream the agent's answer back."""
    try:
        user = await request.auser()
        refused = refusal(user, await user.ahas_perm(DISPATCH), DISPATCH, name) or csrf_problem(request)
        if refused:
            return refused
        if not _can_be_a_name(name):
            return _problem_of(_unknown(name))
        work = Work(_read_body(request), request.META.get("CONTENT_TYPE", ""), _body_length(request))
        dispatcher = await assembly.dispatcher()
        answer = await dispatcher.dispatch(name, work, _order_of(request, user))
    except LifecycleError as error:
        return _problem_of(error)
    except DatabaseError as error:
        logger.error("%s: the work was not dispatched, because the database cannot be used: %s", name, error)
        return ProblemResponse(503, "The database cannot be used at the moment.")
    return _respond(answer)


def _unknown(name: str) -> UnknownInstance:
    return UnknownInstance(name, HOW_TO_TAKE_PART[settings.DORMOUSE_ENGINE])


def _can_be_a_name(name: str) -> bool:
    """Return False for a text with NUL, because PostgreSQL refuses a query that contains it."""
    return "\0" not in name


def _order_of(request: HttpRequest, user: Any) -> Order:
    """Return who dispatches, and what the header `Dormouse-For` says the work is for."""
    work_for = read_for(request.headers.get("Dormouse-For", "").encode("latin-1", "replace"))
    return Order(Trigger.DISPATCH, work_for=work_for, **signature_of(user))


async def _read_body(request: HttpRequest) -> AsyncIterator[bytes]:
    """Yield the body, which Django has already received into memory or a file. Such a read is short."""
    while chunk := request.read(CHUNK_BYTES):
        yield chunk


def _body_length(request: HttpRequest) -> str | None:
    """Return the body's length in bytes, as a header has it.

    Django has received a chunked body by now, so its length is known too. Many agents cannot read chunks.
    """
    stated: str | None = request.META.get("CONTENT_LENGTH")
    received = getattr(request, "_stream", None)
    if stated or not isinstance(received, SpooledTemporaryFile):
        return stated or None
    position = received.tell()
    length = received.seek(0, os.SEEK_END)
    received.seek(position)
    return str(length - position)


def _respond(answer: Answer) -> StreamingHttpResponse:
    """Return the agent's answer as a response, which closes `answer` however it ends."""
    response = StreamingHttpResponse(answer, status=answer.status)
    del response["Content-Type"]
    for name, value in answer.headers.items():
        response[name] = value
    response["Content-Security-Policy"] = ANSWER_POLICY
    response["Cache-Control"] = "no-store"
    if answer.wake_ms is not None:
        response["Server-Timing"] = f"wake;dur={answer.wake_ms}"
    return response


def _problem_of(error: LifecycleError) -> ProblemResponse:
    return ProblemResponse(error.status, str(error), **error.members())
