"""Errors of the API as problem details: `application/problem+json`.

Source: RFC 9457.
"""

from copy import copy
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import CsrfViewMiddleware

from access.identity.tokens import limits_of


class ProblemResponse(JsonResponse):
    """A response that describes an error of HTTP status `status`.

    `detail` is a sentence for a person. `members` are further entries for a program. `code` names the error in the
    header `Dormouse-Error`, by which a program tells answers of Dormouse from those of an agent.
    """

    def __init__(self, status: int, detail: str, *, code: str = "", **members: Any) -> None:
        body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        super().__init__(body | members, status=status, content_type="application/problem+json")
        self.detail = detail
        if status == HTTPStatus.UNAUTHORIZED:
            self["WWW-Authenticate"] = "Bearer"
        if code:
            self["Dormouse-Error"] = code


def refusal(user: Any, permitted: bool, permission: str, *instances: str) -> ProblemResponse | None:
    """Return the answer for a user without `permission`, or None if the user is `permitted`.

    `instances` are those that the request is about, because some tokens are for certain instances alone. The answer is
    401 without a signed-in user, else 403.
    """
    if user is None or not user.is_authenticated:
        detail = "Sign in, or send a token as Authorization: Bearer or as Dormouse-Token."
        return ProblemResponse(401, detail, code="unauthenticated")
    if not permitted:
        return ProblemResponse(403, f"This needs the permission {permission}.", code="forbidden")
    limits = limits_of(user)
    foreign = next((name for name in instances if limits and name not in limits), None)
    if foreign is None:
        return None
    return ProblemResponse(403, f"This token is not for the instance {foreign!r}.", code="forbidden")


def csrf_problem(request: HttpRequest, *, safe_methods_too: bool = False) -> ProblemResponse | None:
    """Return a 403 if a session's request lacks its CSRF token, which must be in the header `X-CSRFToken`.

    Django's own check parses a form first, and a form that was parsed cannot be forwarded to an agent. Once a request
    is being read, Django does not parse its form any more. Django asks nothing of GET, HEAD, OPTIONS and TRACE, unless
    `safe_methods_too`: an agent may act on any method, and a browser sends cookies with every link that is followed.
    """
    checked = copy(request)
    if safe_methods_too:
        checked.method = "POST"
    checked.read(0)
    check = _HeaderOnlyCsrf(lambda request: HttpResponse())
    return check.process_view(checked, lambda request: HttpResponse(), (), {})  # type: ignore[return-value]


def origin_problem(request: HttpRequest) -> ProblemResponse | None:
    """Return a 403 if a session's WebSocket comes from a page of another origin. Browsers do not ask before."""
    origin = request.headers.get("Origin", "")
    if origin in (f"{request.scheme}://{request.get_host()}", *settings.CSRF_TRUSTED_ORIGINS):
        return None
    return ProblemResponse(403, f"A page of {origin or 'no origin'} may not open a WebSocket here.", code="forbidden")


class _HeaderOnlyCsrf(CsrfViewMiddleware):
    """Django's check of the CSRF token, with a problem as its answer."""

    def _reject(self, request: HttpRequest, reason: str) -> ProblemResponse:
        return ProblemResponse(403, f"{reason} A session sends it in the header X-CSRFToken.", code="forbidden")
