"""The user of a request: a person with a session, or a program with the bearer token.

If a request has an `Authorization` header, that header alone decides. The other apps only call `user.has_perm(...)`.
"""

import secrets
from typing import Any

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest

from access.permissions import DISPATCH, VIEW_EVENTS
from access.sessions import SessionStore


class TokenUser:
    """A program that sent the bearer token. It may see everything and dispatch work, and has no access to the admin.

    It offers the part of Django's user interface that views, middleware and the admin use.
    """

    PERMISSIONS = frozenset({VIEW_EVENTS, DISPATCH})

    pk = None
    username = "program"
    is_authenticated = True
    is_anonymous = False
    is_active = True
    is_staff = False
    is_superuser = False

    def get_username(self) -> str:
        """Return the name that pages and logs show."""
        return self.username

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Return whether the token includes the permission `perm`."""
        return perm in self.PERMISSIONS

    def has_perms(self, perms: list[str], obj: object = None) -> bool:
        """Return whether the token includes all of `perms`."""
        return all(self.has_perm(perm) for perm in perms)

    async def ahas_perm(self, perm: str, obj: object = None) -> bool:
        """Return the same as `has_perm`, for coroutines."""
        return self.has_perm(perm)

    def has_module_perms(self, app_label: str) -> bool:
        """Return False, because the admin is for people."""
        return False


def token_user(authorization: str) -> TokenUser | AnonymousUser:
    """Return the user that an `Authorization` header names.

    If `DORMOUSE_API_TOKEN` is empty, no header is accepted.
    """
    scheme, _, token = authorization.partition(" ")
    expected = settings.DORMOUSE_API_TOKEN
    is_correct = scheme.lower() == "bearer" and secrets.compare_digest(
        token.strip().encode("latin-1", "replace"), expected.encode()
    )
    return TokenUser() if is_correct and expected else AnonymousUser()


def current_access(permission: str, authorization: str | None, session_key: str | None) -> tuple[Any, bool]:
    """Return the user of a header or a session (None: not signed in), and whether the user has `permission`.

    This asks the database at each call.
    """
    user = current_user(authorization, session_key)
    return (user if user.is_authenticated else None), user.has_perm(permission)


def current_user(authorization: str | None, session_key: str | None) -> Any:
    """Return the user of a header or a session, read from the database at each call.

    A stream calls this again and again, because it may outlive the login that opened it.
    """
    if authorization is not None:
        return token_user(authorization)
    request = HttpRequest()
    request.session = SessionStore(session_key)
    return auth.get_user(request)
