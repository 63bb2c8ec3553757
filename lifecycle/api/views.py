"""The API. Errors are problem details; permission is decided before existence."""

import logging
import os
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import Any

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from access.permissions import DISPATCH, VIEW_EVENTS
from access.problems import ProblemResponse, csrf_problem, refusal
from lifecycle import assembly
from lifecycle.api import status
from lifecycle.dispatch.dispatcher import AgentBrokeOff, AgentTooSlow, Answer, Work
from lifecycle.exceptions import Cause, EngineUnreachable, LabelError, LifecycleError, StartFailed, UnknownInstance
from lifecycle.models import EngineSight, Instance

logger = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 1024
#: An agent's answer comes from our origin: it may be shown, but run nothing and read nothing there.
ANSWER_POLICY = "default-src 'none'; sandbox"


@require_safe
def instances(request: HttpRequest) -> HttpResponse:
    """Every instance, and the last look at the engine."""
    refused = refusal(request.user, request.user.has_perm(VIEW_EVENTS), VIEW_EVENTS)
    if refused:
        return refused
    sights = EngineSight.objects.values("engine", "asked", "answered", "error")
    rows = status.described(Instance.objects.all(), timezone.now())
    return JsonResponse({"engines": list(sights), "instances": rows})


@require_safe
def instance(request: HttpRequest, name: str) -> HttpResponse:
    """One instance."""
    refused = refusal(request.user, request.user.has_perm(VIEW_EVENTS), VIEW_EVENTS)
    if refused:
        return refused
    rows = Instance.objects.filter(pk=name) if _can_be_a_name(name) else []
    if not rows:
        return problem_of(UnknownInstance(name))
    return JsonResponse(status.described(rows, timezone.now())[0])


@csrf_exempt  # checked by csrf_problem
@require_POST
async def dispatch(request: HttpRequest, name: str) -> HttpResponseBase:
    """Wakes the instance, forwards the body, and streams the agent's answer back."""
    try:
        user = await request.auser()
        refused = refusal(user, await user.ahas_perm(DISPATCH), DISPATCH) or csrf_problem(request)
        if refused:
            return refused
        if not _can_be_a_name(name):
            return problem_of(UnknownInstance(name))
        work = Work(_body(request), request.META.get("CONTENT_TYPE", ""), _length(request))
        dispatcher = await assembly.dispatcher()
        answer = await dispatcher.dispatch(name, work)
    except LifecycleError as error:
        return problem_of(error)
    except DatabaseError as error:
        logger.error("%s: no dispatch without the database: %s", name, error)
        return ProblemResponse(503, "The database does not answer.")
    return _response(answer)


def _can_be_a_name(name: str) -> bool:
    """PostgreSQL cannot even be asked for a text with NUL in it."""
    return "\0" not in name


async def _body(request: HttpRequest) -> AsyncIterator[bytes]:
    """The body, which Django has received already, in memory or in a file. In a coroutine, for reads are short."""
    while chunk := request.read(CHUNK_BYTES):
        yield chunk


def _length(request: HttpRequest) -> str | None:
    """In bytes. Of a body that came in chunks, too, which Django has received by now: many agents know only lengths."""
    stated: str | None = request.META.get("CONTENT_LENGTH")
    received = getattr(request, "_stream", None)
    if stated or not isinstance(received, SpooledTemporaryFile):
        return stated or None
    position = received.tell()
    length = received.seek(0, os.SEEK_END)
    received.seek(position)
    return str(length - position)


def _response(answer: Answer) -> StreamingHttpResponse:
    """Closes `answer` with itself, however it ends."""
    response = StreamingHttpResponse(answer, status=answer.status)
    del response["Content-Type"]
    for name, value in answer.headers.items():
        response[name] = value
    response["Content-Security-Policy"] = ANSWER_POLICY
    response["Cache-Control"] = "no-store"
    if answer.wake_ms is not None:
        response["Server-Timing"] = f"wake;dur={answer.wake_ms}"
    return response


def problem_of(error: LifecycleError) -> ProblemResponse:
    """What the API says of `error`."""
    if isinstance(error, StartFailed):
        facts: dict[str, Any] = {key: value for key, value in error.data().items() if key != "log_tail"}
        return ProblemResponse(503, str(error), instance=error.instance, **facts)
    if isinstance(error, EngineUnreachable):
        return ProblemResponse(503, str(error), cause=Cause.ENGINE_UNREACHABLE, error=str(error))
    if isinstance(error, LabelError):
        return ProblemResponse(409, str(error), instance=error.instance, label=error.label, value=error.value)
    statuses = {UnknownInstance: 404, AgentBrokeOff: 502, AgentTooSlow: 504}
    return ProblemResponse(statuses[type(error)], str(error))
