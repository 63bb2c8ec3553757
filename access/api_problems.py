"""Every error under /api/ as problem details, also those that Django answers itself: 404, 405, 500 and others."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from access.problems import ProblemResponse

API = "/api/"
DETAILS = {
    400: "The request cannot be read.",
    403: "The request was refused.",
    404: "There is nothing at this address.",
    500: "Dormouse has made a mistake. Its log says which one.",
}


class ApiProblemMiddleware:
    """Django middleware that turns error pages under /api/ into problem details. An agent's answer passes as it is."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Return the response, or a problem in its place."""
        response = await self.get_response(request)
        if request.path_info.startswith(API) and response.status_code >= 400 and isinstance(response, HttpResponse):
            return _as_problem(response)
        return response  # what streams is an agent's


def _as_problem(response: HttpResponse) -> HttpResponse:
    """Return a problem with the status and the other headers of `response`."""
    if isinstance(response, ProblemResponse):
        return response
    allowed: Any = response.get("Allow")
    detail = DETAILS.get(response.status_code, response.reason_phrase)
    problem = ProblemResponse(response.status_code, f"This address takes {allowed}." if allowed else detail)
    for name, value in response.items():
        if name not in ("Content-Type", "Content-Length"):
            problem[name] = value
    problem.cookies = response.cookies
    return problem
