"""The user of a request: a person with a session, or a program with a token.

`access_of` decides, for Django's views and for applications in front of Django. The other apps only call
`user.has_perm(...)`.
"""

import getpass
import os
from dataclasses import dataclass, field
from typing import Any, Self

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib import auth
from django.http import HttpRequest, parse_cookie

from access.identity.sessions import SessionStore
from access.identity.tokens import TokenUser, verify, verify_known


@dataclass(frozen=True)
class Credentials:
    """The credentials that a request carries. If there is a token, it alone decides, even if it is wrong."""

    #: None: none was sent. Empty: a header was sent that holds no token.
    token: str | None = field(repr=False)
    session_key: str | None = field(repr=False)

    @classmethod
    def of_request(cls, request: HttpRequest) -> Self:
        """Return the credentials of a request of Django."""
        token = _token_of(request.META.get("HTTP_DORMOUSE_TOKEN"), request.META.get("HTTP_AUTHORIZATION"))
        return cls(token, request.COOKIES.get(settings.SESSION_COOKIE_NAME))

    @classmethod
    def of_scope(cls, scope: Any) -> Self:
        """Return the credentials of an ASGI scope. This is cheap, because it makes no request."""
        found: dict[bytes, str] = {}
        for name, value in scope["headers"]:
            if name in (b"dormouse-token", b"authorization", b"cookie"):
                before = f"{found[name]}," if name in found else ""  # as Django does, for cookies too
                found[name] = before + value.decode("latin-1")
        token = _token_of(found.get(b"dormouse-token"), found.get(b"authorization"))
        return cls(token, parse_cookie(found.get(b"cookie", "")).get(settings.SESSION_COOKIE_NAME))


def _token_of(dormouse_token: str | None, authorization: str | None) -> str | None:
    """Return the token of the headers. `Dormouse-Token` wins, because `Authorization` may be meant for an agent."""
    if dormouse_token is not None:
        return dormouse_token.strip()
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def access_of(credentials: Credentials, permission: str) -> tuple[Any, bool]:
    """Return the user (None: not signed in), and whether the user has `permission`.

    A token that was valid a moment ago needs no query and no thread. A stream calls this again and again, because it
    may outlive the login that opened it. Raises DatabaseError.
    """
    user = verify_known(credentials.token) if credentials.token is not None else None
    return _access(user, permission) if user else await database_sync_to_async(_find_access)(credentials, permission)


def _find_access(credentials: Credentials, permission: str) -> tuple[Any, bool]:
    return _access(find_user(credentials), permission)


def _access(user: Any, permission: str) -> tuple[Any, bool]:
    return (user if user.is_authenticated else None), user.has_perm(permission)


def find_user(credentials: Credentials) -> Any:
    """Return the user, read from the database; AnonymousUser if there is none. Raises DatabaseError."""
    if credentials.token is not None:
        return verify(credentials.token)
    request = HttpRequest()
    request.session = SessionStore(credentials.session_key)
    return auth.get_user(request)


def signature_of(user: Any) -> dict[str, str]:
    """Return what an event says of the user who caused it."""
    return {"by": user.get_username(), "by_kind": "token" if isinstance(user, TokenUser) else "user"}


def signature_of_command() -> dict[str, str]:
    """Return what an event says of the person who caused it with a command: the name of the system's user."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        name = f"uid {os.getuid()}"
    return {"by": name, "by_kind": "command"}
