"""Who calls the API, and what for."""

from typing import Any

from django.http import HttpRequest

from access.identity.users import signature_of
from lifecycle.orders import Order, Trigger, read_for


def order_of(request: HttpRequest, user: Any, trigger: Trigger) -> Order:
    """Return the order of a user, with what the header `Dormouse-For` says it is for."""
    work_for = read_for(request.META.get("HTTP_DORMOUSE_FOR", "").encode("latin-1", "replace"))
    return Order(trigger, work_for=work_for, **signature_of(user))
