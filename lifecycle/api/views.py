"""The JSON API. Errors are problem details. Permission is decided before it is said whether an instance exists."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from access.identity.tokens import limits_of
from access.permissions import VIEW_EVENTS
from access.problems import refusal
from lifecycle import assembly
from lifecycle.api import status
from lifecycle.api.answers import can_be_a_name, problem_of, unknown
from lifecycle.models import EngineStatus, Instance


@csrf_exempt  # it changes nothing; a stranger's DELETE is 405, and not 403
@require_safe
def instances(request: HttpRequest) -> HttpResponse:
    """Answer `GET /api/instances`: Dormouse's version, the last look at each engine, and every instance."""
    refused = refusal(request.user, request.user.has_perm(VIEW_EVENTS), VIEW_EVENTS)
    if refused:
        return refused
    engines = EngineStatus.objects.values("engine", "asked", "answered", "error", "neighbour")
    limits = limits_of(request.user)
    rows = Instance.objects.filter(pk__in=limits) if limits else Instance.objects.all()
    described = status.describe(rows, assembly.clock.now())
    return JsonResponse({"version": settings.DORMOUSE_VERSION, "engines": list(engines), "instances": described})


@csrf_exempt
@require_safe
def instance(request: HttpRequest, name: str) -> HttpResponse:
    """Answer `GET /api/instances/NAME`: one instance."""
    refused = refusal(request.user, request.user.has_perm(VIEW_EVENTS), VIEW_EVENTS, name)
    if refused:
        return refused
    rows = Instance.objects.filter(pk=name) if can_be_a_name(name) else []
    if not rows:
        return problem_of(unknown(name))
    return JsonResponse(status.describe(rows, assembly.clock.now())[0])
