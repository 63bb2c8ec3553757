"""`GET /healthz`: whether this process can answer at all."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed


class HealthMiddleware:
    """Django middleware that must be first: health checks arrive without TLS, without a login and with any Host."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[Any]]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        """Answer a health check; pass every other request on."""
        if request.path != "/healthz":
            return await self.get_response(request)
        return await sync_to_async(healthz)(request)


def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 while the database answers, else 503. There is no detail, because this needs no login."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return HttpResponse("the database does not answer\n", status=503, content_type="text/plain")
    return HttpResponse("ok\n", content_type="text/plain")
