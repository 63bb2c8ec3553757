"""The buttons on a card: forms that work without JavaScript, and that say on the page what happened.

Each order is carried out in a thread of its own, because a start or a stop may take long.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from access.identity.tokens import limits_of
from access.identity.users import signature_of
from access.permissions import CONTROL, DISPATCH
from agents_ui.instances import AWAKE_CHOICES
from agents_ui.zones import in_readers_zone
from events.event_types import format_duration
from lifecycle import assembly
from lifecycle.api.answers import can_be_a_name, unknown
from lifecycle.api.threads import in_own_thread
from lifecycle.exceptions import LifecycleError, WorkInFlight
from lifecycle.orders import Order, Trigger
from lifecycle.transitions.control import MAX_REASON_CHARACTERS, Control, read_until

#: Carries an order out, and returns a sentence that says what happened. It blocks.
Carry = Callable[[HttpRequest, Control, str], str]
View = Callable[[HttpRequest, str], Coroutine[Any, Any, HttpResponseBase]]


def order(permission: str) -> Callable[[Carry], View]:
    """Make a view of a function that carries an order out, for users who have `permission`."""

    def decorate(carry: Carry) -> View:
        @never_cache
        @wraps(carry)
        async def view(request: HttpRequest, name: str) -> HttpResponseBase:
            user = request.user = await request.auser()
            if not user.is_authenticated:
                return redirect_to_login(_place(request))
            if not await user.ahas_perm(permission) or limits_of(user):
                raise PermissionDenied
            if request.method == "GET":
                shown = {"name": name, "max_length": MAX_REASON_CHARACTERS, "next": _place(request)}
                return await _render(request, "disable.html", **shown)
            return await _carry_out(carry, request, name)

        return view

    return decorate


async def _carry_out(carry: Carry, request: HttpRequest, name: str) -> HttpResponseBase:
    """Carry the order out, and lead back to the page, which says what happened. Ask before work is broken off."""
    try:
        if not can_be_a_name(name):
            raise unknown(name)
        said = await in_own_thread(name, lambda: carry(request, assembly.lifecycle().control, name))
        messages.success(request, said)
    except WorkInFlight as error:
        return await _render(request, "break_off.html", name=name, work=error.count, next=_place(request))
    except (LifecycleError, ValueError) as error:
        messages.error(request, str(error))
    return redirect(_place(request))


@sync_to_async
def _render(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    view = in_readers_zone(lambda request: render(request, f"agents_ui/{template}", context))
    return view(request)


@require_POST
@order(DISPATCH)
def wake(request: HttpRequest, control: Control, name: str) -> str:
    """Wake the agent."""
    latency_ms = control.wake(name, Order(Trigger.WAKE, **signature_of(request.user)))
    return f"{name} was ready." if latency_ms is None else f"{name} is ready, after {format_duration(latency_ms)}."


@require_POST
@order(CONTROL)
def sleep(request: HttpRequest, control: Control, name: str) -> str:
    """Put the agent to sleep; ask first if it has work in flight."""
    control.sleep(name, Order(Trigger.SLEEP, **signature_of(request.user)), force=_is_forced(request))
    return f"{name} is asleep."


@require_POST
@order(DISPATCH)
def keep_awake(request: HttpRequest, control: Control, name: str) -> str:
    """Keep the agent awake for a time."""
    duration = request.POST.get("for", "")
    until = read_until(control.clock.now(), duration=duration)
    control.keep_awake(name, until, signature_of(request.user))
    return f"{name} is not put to sleep within {dict(AWAKE_CHOICES).get(duration, duration)}."


@require_POST
@order(DISPATCH)
def let_sleep(request: HttpRequest, control: Control, name: str) -> str:
    """Let the agent sleep again when it is idle."""
    control.end_keep_awake(name, signature_of(request.user), may_control=request.user.has_perm(CONTROL))
    return f"{name} is put to sleep when it is idle."


@require_http_methods(["GET", "POST"])
@order(CONTROL)
def disable(request: HttpRequest, control: Control, name: str) -> str:
    """Disable the agent. A GET shows the form that asks why."""
    reason, caller = request.POST.get("reason", ""), signature_of(request.user)
    control.disable(name, reason, caller, force=_is_forced(request))
    return f"{name} is disabled. It takes no new work, and is put to sleep when its work has ended."


@require_POST
@order(CONTROL)
def enable(request: HttpRequest, control: Control, name: str) -> str:
    """Let the agent take work again."""
    control.enable(name, signature_of(request.user))
    return f"{name} is enabled."


def _is_forced(request: HttpRequest) -> bool:
    return request.POST.get("force") == "true"


def _place(request: HttpRequest) -> str:
    """Return the address of the page from which the order came, with its filter."""
    agents, place = reverse("agents"), request.POST.get("next") or request.GET.get("next", "")
    is_ours = place.partition("?")[0] == agents and url_has_allowed_host_and_scheme(place, allowed_hosts=None)
    return place if is_ours else agents
