"""Errors of the API as problem details (RFC 9457): `application/problem+json`."""

from http import HTTPStatus
from typing import Any

from django.http import JsonResponse


class ProblemResponse(JsonResponse):
    """A problem of `status`, with `detail` for a person and further members for a program."""

    def __init__(self, status: int, detail: str, **members: Any) -> None:
        body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        super().__init__(body | members, status=status, content_type="application/problem+json")
        if status == HTTPStatus.UNAUTHORIZED:
            self["WWW-Authenticate"] = "Bearer"


def refusal(user: Any, permitted: bool, permission: str) -> ProblemResponse | None:
    """401 for nobody in particular, 403 without the permission, None for those who may."""
    if permitted:
        return None
    if user is None or not user.is_authenticated:
        return ProblemResponse(401, "Sign in, or send the token as Authorization: Bearer.")
    return ProblemResponse(403, f"This needs the permission {permission}.")
