"""Middleware that identifies the user of a request: for Django's views, and for applications in front of Django."""

from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from access.users import TokenUser, current_access, token_user


class BearerTokenMiddleware(MiddlewareMixin):
    """Django middleware that sets `request.user` if the request has an `Authorization` header.

    A request with the correct token needs no CSRF token, because a browser never sends the bearer token by itself.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Replace the session's user with the user of the header, if there is one."""
        authorization = request.headers.get("Authorization")
        if authorization is None:
            return
        user = token_user(authorization)
        request.user = user  # type: ignore[assignment]  # views only call has_perm

        async def auser() -> Any:
            return user

        request.auser = auser
        request._dont_enforce_csrf_checks = isinstance(user, TokenUser)  # type: ignore[attr-defined]


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
            await send_response(HttpResponse("Bad Request\n", status=400, content_type="text/plain"), send)
            return
        if settings.SECURE_SSL_REDIRECT and not request.is_secure():
            location = request.build_absolute_uri().replace("http:", "https:", 1)
            await send_response(HttpResponse(status=301, headers={"Location": location}), send)
            return

        authorization = request.headers.get("Authorization")
        session_key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)

        def has_perm(permission: str) -> tuple[Any, bool]:
            return current_access(permission, authorization, session_key)

        scope |= {"request": request, "has_perm": database_sync_to_async(has_perm)}
        del request  # the stream drops its own reference too: thousands of readers would each keep a request in memory
        await self.app(scope, receive, send)


async def send_response(response: HttpResponse, send: Any) -> None:
    """Send a small Django response as ASGI messages."""
    headers = [(name.lower().encode(), value.encode()) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
