"""`GET /healthz`: whether this process can work at all. `GET /readyz`: whether it should be sent requests."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed

from access.database import NOT_MIGRATED, is_migrated
from lifecycle import assembly
from lifecycle.dispatch.in_flight.draining import work_in_flight
from lifecycle.supervision.supervisor import latest_sweep

#: A supervisor whose latest sweep is older does not do its work. A sweep may wait for some deadlines of 10 s.
OLD_SWEEP_SECONDS = 60

NEIGHBOUR = "another Dormouse manages the agents of this engine and scope, so this one takes no work for them"


class HealthMiddleware:
    """Django middleware that must be first: health checks arrive without TLS, without a login and with any Host."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[Any]]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        """Answer a health check; pass every other request on."""
        find_trouble = CHECKS.get(request.path_info)
        if find_trouble is None:
            return await self.get_response(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        return await sync_to_async(answer)(find_trouble)


def answer(find_trouble: Callable[[], str]) -> HttpResponse:
    """Answer 200, or 503 with a sentence. It names no host and no file, because this needs no login."""
    try:
        trouble = find_trouble()
    except DatabaseError:
        trouble = "The database does not answer."
    return HttpResponse(f"{trouble or _say_ok()}\n", status=503 if trouble else 200, content_type="text/plain")


def _find_trouble() -> str:
    """Return why the database cannot be used, or an empty text. Raises DatabaseError."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return "The database cannot be written." if assembly.database_trouble() else ""


def _find_unreadiness() -> str:
    """Return why no requests should be sent here, or an empty text. Raises DatabaseError."""
    if work_in_flight.is_draining:
        return "This process is ending."
    return _find_trouble() or ("" if is_migrated() else NOT_MIGRATED)


def _find_unreadiness_of_supervisor() -> str:
    """Return why this supervisor does not do its work, or an empty text. Raises DatabaseError."""
    age_seconds = latest_sweep.age_seconds()
    if age_seconds is None or age_seconds > OLD_SWEEP_SECONDS:
        return _find_unreadiness() or "The supervisor does not sweep. Its log says why."
    return _find_unreadiness()


def _say_ok() -> str:
    """Return `ok`. A process with a neighbour takes no work, and is sent requests: its page says what is to be done."""
    return f"ok, but {NEIGHBOUR}" if assembly.has_neighbour() else "ok"


CHECKS = {"/healthz": _find_trouble, "/readyz": _find_unreadiness}
SUPERVISOR_CHECKS = CHECKS | {"/readyz": _find_unreadiness_of_supervisor}
