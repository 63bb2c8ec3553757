"""Who is asking: a person with a session, or a program with the bearer token.

An `Authorization` header decides alone where it is present. Apps only ask `user.has_perm(...)`.
"""

import secrets
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin


class Program:
    """Who sends the bearer token: may see everything and dispatch, and is nobody to the admin."""

    PERMISSIONS = frozenset({"events.view_eventlog", "lifecycle.dispatch_instance"})

    pk = None
    username = "program"
    is_authenticated = True
    is_anonymous = False
    is_active = True
    is_staff = False
    is_superuser = False

    def get_username(self) -> str:
        return self.username

    def has_perm(self, perm: str, obj: object = None) -> bool:
        return perm in self.PERMISSIONS

    def has_perms(self, perms: list[str], obj: object = None) -> bool:
        return all(self.has_perm(perm) for perm in perms)

    async def ahas_perm(self, perm: str, obj: object = None) -> bool:
        return self.has_perm(perm)

    def has_module_perms(self, app_label: str) -> bool:
        return False


def program(authorization: str) -> Program | AnonymousUser:
    """Who an `Authorization` header names. An empty `DORMOUSE_API_TOKEN` lets no program in."""
    scheme, _, token = authorization.partition(" ")
    expected = settings.DORMOUSE_API_TOKEN
    known = scheme.lower() == "bearer" and secrets.compare_digest(
        token.strip().encode("latin-1", "replace"), expected.encode()
    )
    return Program() if known and expected else AnonymousUser()


class BearerTokenMiddleware(MiddlewareMixin):
    """Sets `request.user` where an `Authorization` header is present.

    A browser never sends the token by itself, so a request that carries it needs no CSRF token.
    """

    def process_request(self, request: HttpRequest) -> None:
        authorization = request.headers.get("Authorization")
        if authorization is None:
            return
        user = program(authorization)
        request.user = user  # type: ignore[assignment]  # all that apps ask of it is has_perm

        async def auser() -> Any:
            return user

        request.auser = auser
        request._dont_enforce_csrf_checks = isinstance(user, Program)  # type: ignore[attr-defined]


def who(authorization: str | None, session_key: str | None) -> Any:
    """Whose header or session that is, read afresh; for streams, which outlive a login."""
    if authorization is not None:
        return program(authorization)
    request = HttpRequest()
    request.session = SessionStore(session_key)
    return auth.get_user(request)


class AsgiAccess:
    """ASGI middleware for what is served in front of Django: checks the host as Django does.

    Puts `request` (Django's, without a body) and `has_perm` (an async function of a permission, which answers
    with the user, or None when signed out, and whether they have it) into the scope.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        try:
            request = ASGIRequest(scope, BytesIO())
            request.get_host()
        except (DisallowedHost, UnicodeDecodeError):
            await answer(HttpResponse("Bad Request\n", status=400, content_type="text/plain"), send)
            return
        if settings.SECURE_SSL_REDIRECT and not request.is_secure():
            location = request.build_absolute_uri().replace("http:", "https:", 1)
            await answer(HttpResponse(status=301, headers={"Location": location}), send)
            return

        authorization = request.headers.get("Authorization")
        session_key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)

        def has_perm(permission: str) -> tuple[Any, bool]:
            user = who(authorization, session_key)
            return (user if user.is_authenticated else None), user.has_perm(permission)

        scope |= {"request": request, "has_perm": database_sync_to_async(has_perm)}
        del request  # the app lets go of it, too, when it is read: thousands of streams would keep theirs
        await self.app(scope, receive, send)


async def answer(response: HttpResponse, send: Any) -> None:
    """Sends a small Django response over ASGI."""
    headers = [(name.lower().encode(), value.encode()) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
