"""`GET /metrics`: for every user who may see events."""

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
    refused = refusal(request.user, request.user.has_perm(VIEW_EVENTS), VIEW_EVENTS)
    return refused or HttpResponse(
        exposition.render(limits_of(request.user)),
        content_type=exposition.CONTENT_TYPE,
        headers={"Cache-Control": "no-store"},
    )
