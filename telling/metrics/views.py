"""`GET /metrics`: for every user who may see events."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from access.identity.tokens import limits_of
from access.permissions import VIEW_EVENTS
from access.problems import refusal
from telling.metrics import exposition


@csrf_exempt  # it changes nothing
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer a scrape of this process."""
    return answer_scrape(request.user, request.user.has_perm(VIEW_EVENTS))


def answer_scrape(user: Any, permitted: bool) -> HttpResponse:
    """Return the metrics that the user may see, or a refusal. Raises DatabaseError."""
    refused = refusal(user, permitted, VIEW_EVENTS)
    return refused or HttpResponse(
        exposition.render(limits_of(user)), content_type=exposition.CONTENT_TYPE, headers={"Cache-Control": "no-store"}
    )
