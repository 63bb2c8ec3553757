"""The API's orders besides work: waking, putting to sleep, keeping awake and disabling an instance."""

import logging
from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import wraps
from typing import Any

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from access.json_bodies import Invalid, read_json
from access.permissions import CONTROL, DISPATCH
from access.problems import ProblemResponse, csrf_problem, refusal
from lifecycle import assembly
from lifecycle.api.answers import can_be_a_name, database_problem, problem_of, unknown
from lifecycle.api.callers import order_of
from lifecycle.api.threads import in_own_thread
from lifecycle.clock import as_text
from lifecycle.exceptions import LifecycleError
from lifecycle.orders import Trigger
from lifecycle.transitions.control import MAX_REASON_CHARACTERS, Control, read_until

logger = logging.getLogger(__name__)

#: Carries an order out, and returns what is answered. It blocks.
Carry = Callable[[HttpRequest, Control, str], dict[str, Any]]
View = Callable[[HttpRequest, str], Coroutine[Any, Any, HttpResponse]]


def order(permission: str) -> Callable[[Carry], View]:
    """Make a view of a function that carries an order out, for users who have `permission`."""

    def decorate(carry: Carry) -> View:
        @csrf_exempt  # csrf_problem checks it
        @wraps(carry)
        async def view(request: HttpRequest, name: str) -> HttpResponse:
            try:
                user = request.user = await request.auser()
                refused = refusal(user, await user.ahas_perm(permission), permission, name) or csrf_problem(request)
                if refused:
                    return refused
                if not can_be_a_name(name):
                    return problem_of(unknown(name))
                carried = await in_own_thread(name, lambda: carry(request, assembly.lifecycle().control, name))
                return JsonResponse(carried)
            except Invalid as error:
                return ProblemResponse(error.status, str(error))
            except LifecycleError as error:
                return problem_of(error)
            except DatabaseError as error:
                logger.error("%s: the order was not carried out, because the database failed: %s", name, error)
                return database_problem()

        return view

    return decorate


@require_POST
@order(DISPATCH)
def wake(request: HttpRequest, control: Control, name: str) -> dict[str, Any]:
    """Answer `POST /api/instances/NAME/wake` when it is ready, with how long that took. Null: it was ready."""
    return {"state": "ready", "latency_ms": control.wake(name, order_of(request, request.user, Trigger.WAKE))}


@require_POST
@order(CONTROL)
def sleep(request: HttpRequest, control: Control, name: str) -> dict[str, Any]:
    """Answer `POST /api/instances/NAME/sleep` when it is asleep. With `?force=true` work in flight is broken off."""
    control.sleep(name, order_of(request, request.user, Trigger.SLEEP), force=_is_forced(request))
    return {"state": "asleep"}


@require_http_methods(["PUT", "DELETE"])
@order(DISPATCH)
def awake_until(request: HttpRequest, control: Control, name: str) -> dict[str, Any]:
    """Answer `PUT` and `DELETE /api/instances/NAME/awake-until`: do not put it to sleep before a time, or do again."""
    if request.method == "DELETE":
        control.end_keep_awake(name, _event_data(request), may_control=request.user.has_perm(CONTROL))
        return {"until": None}
    until = _read_until(request, control.clock.now())
    return {"until": as_text(control.keep_awake(name, until, _event_data(request)))}


@require_http_methods(["PUT", "DELETE"])
@order(CONTROL)
def disabled(request: HttpRequest, control: Control, name: str) -> dict[str, Any]:
    """Answer `PUT` and `DELETE /api/instances/NAME/disabled`: refuse new work and put it to sleep, or accept work."""
    if request.method == "DELETE":
        control.enable(name, _event_data(request))
        return {"disabled": None}
    sent = _read(request, "reason")
    reason = sent.get("reason", "")
    if len(reason) > MAX_REASON_CHARACTERS:
        raise Invalid(422, f"A reason has at most {MAX_REASON_CHARACTERS} characters.")
    return {"disabled": control.disable(name, reason, _event_data(request), force=_is_forced(request))}


def _event_data(request: HttpRequest) -> dict[str, Any]:
    return order_of(request, request.user, Trigger.WAKE).caller()


def _is_forced(request: HttpRequest) -> bool:
    text = request.GET.get("force", "false")
    if text not in ("true", "false"):
        raise Invalid(400, "force is true or false.")
    return text == "true"


def _read(request: HttpRequest, *members: str) -> dict[str, str]:
    """Return the members of the body, which are texts. Raises Invalid."""
    sent = read_json(request)
    for name, value in sent.items():
        if name not in members or not isinstance(value, str):
            raise Invalid(422, f"The body has {' or '.join(members)}, a text: not {name!r}.")
    return sent


def _read_until(request: HttpRequest, now: datetime) -> datetime:
    sent = _read(request, "for", "until")
    try:
        return read_until(now, duration=sent.get("for"), until=sent.get("until"))
    except ValueError as error:
        raise Invalid(422, str(error)) from None
