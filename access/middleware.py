"""Middleware that identifies the user of a request: for Django's views, and for applications in front of Django."""

from collections.abc import Awaitable, Callable
from functools import partial
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from access.database import answer_to
from access.identity.tokens import TokenUser
from access.identity.users import Credentials, access_of, find_user
from access.problems import ProblemResponse


class TokenMiddleware(MiddlewareMixin):
    """Django middleware that sets `request.user` if the request has a token.

    A request with a valid token needs no CSRF token, because a browser never sends a token by itself.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Replace the session's user with the user of the token, if there is one."""
        credentials = Credentials.of_request(request)
        if credentials.token is None:
            return None
        try:
            user = find_user(credentials)
        except DatabaseError as error:
            return answer_to(request, error)
        request.user = user

        async def auser() -> Any:
            return user

        request.auser = auser
        request._dont_enforce_csrf_checks = isinstance(user, TokenUser)  # type: ignore[attr-defined]
        return None


class AsgiAccess:
    """ASGI middleware for applications that run in front of Django. It checks the host as Django does.

    It adds two entries to the scope. `request` is Django's request, without a body. `has_perm` is an async function
    that takes the name of a permission and returns the user (None: not signed in) and whether the user has it.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer 400 for a wrong host and redirect to HTTPS if that is required; else call the application."""
        try:
            request = ASGIRequest(scope, BytesIO())
            request.get_host()
        except (DisallowedHost, UnicodeDecodeError):
            detail = "The host is not in DJANGO_ALLOWED_HOSTS, or the address cannot be read."
            await send_response(ProblemResponse(400, detail), send)
            return
        if settings.SECURE_SSL_REDIRECT and not request.is_secure():
            location = request.build_absolute_uri().replace("http:", "https:", 1)
            await send_response(HttpResponse(status=301, headers={"Location": location}), send)
            return

        scope |= {"request": request, "has_perm": partial(access_of, Credentials.of_request(request))}
        del request  # the stream drops its own reference too: thousands of readers would each keep a request in memory
        await self.app(scope, receive, send)


async def send_response(response: HttpResponse, send: Any) -> None:
    """Send a small Django response as ASGI messages."""
    headers = [(name.lower().encode(), value.encode()) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
