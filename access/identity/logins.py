"""Signing in: five wrong passwords lock a name at an address for 15 minutes, and hashing is bounded.

django-axes counts in the database, with a row for each name and address. A row is removed when its lock is over. There
are at most MAX_ROWS, so that invented names do not fill the table. `manage.py axes_reset_username NAME` lifts a lock.
"""

import ipaddress
import logging
import threading
from datetime import timedelta
from typing import Any

from axes.backends import AxesStandaloneBackend
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.core.exceptions import PermissionDenied
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

logger = logging.getLogger(__name__)

MAX_ROWS = 10_000
#: How long a login waits until the passwords before it have been checked. One costs about 0.3 s of a processor.
WAIT_SECONDS = 10

_hashing = threading.Lock()


class LoginBackend(AxesStandaloneBackend, ModelBackend):  # type: ignore[misc]  # django-axes is not typed
    """Checks one password at a time, and none of a name that is locked at its address."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        """Return the user, or None for a wrong name or password. Raises PermissionDenied for a locked name."""
        if not _hashing.acquire(timeout=WAIT_SECONDS):
            logger.warning("A login was refused, because too many passwords are being checked")
            raise PermissionDenied
        try:
            if request is not None:
                AxesStandaloneBackend.authenticate(self, request, username=username, password=password)
            return ModelBackend.authenticate(self, request, username=username, password=password, **kwargs)
        finally:
            _hashing.release()


def client_address(request: HttpRequest) -> str:
    """Return the client's address.

    Behind proxies that DORMOUSE_TRUSTED_PROXIES names, that is the last address of X-Forwarded-For that is not one of
    them. Without that setting the header is ignored, because any client can send it.
    """
    address: str = request.META.get("REMOTE_ADDR") or ""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while is_trusted_proxy(address) and forwarded and _parse(before := forwarded.pop().strip()):
        address = before
    return address


def counted_name(request: HttpRequest, credentials: dict[str, Any] | None = None) -> str | None:
    """Return the name under which failures are counted: as much of it as the table holds. Users have shorter names."""
    name: str | None = (credentials or request.POST).get("username")
    return name and name[: AccessAttempt._meta.get_field("username").max_length]


def locked_response(request: HttpRequest, *arguments: Any, **more: Any) -> HttpResponse:
    """Return the page for a locked name. It is the same whether a user of that name exists or not."""
    lock: timedelta = settings.AXES_COOLOFF_TIME
    response = render(request, "429.html", {"minutes": int(lock.total_seconds() // 60)}, status=429)
    response["Retry-After"] = str(int(lock.total_seconds()))
    return response


@receiver(user_logged_in)
def rotate_session(sender: object, request: HttpRequest, **kwargs: Any) -> None:
    """Give the session a new key at each login. Django keeps the old one if the same user signs in again."""
    request.session.cycle_key()


@receiver(user_login_failed)
def log_failure(sender: object, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any) -> None:
    """Log a failed login, and remove rows of locks that are over or too many."""
    address = client_address(request) if request else ""
    # Quoted, because a name may hold a line break, which would forge a line of the log.
    logger.warning("A login failed: name %r, address %s", str(credentials.get("username", ""))[:100], address or "none")
    AccessAttempt.objects.filter(attempt_time__lt=timezone.now() - settings.AXES_COOLOFF_TIME).delete()
    too_many = AccessAttempt.objects.order_by("-attempt_time").values_list("pk", flat=True)[MAX_ROWS:]
    AccessAttempt.objects.filter(pk__in=list(too_many)).delete()


def is_trusted_proxy(address: str) -> bool:
    """Return whether DORMOUSE_TRUSTED_PROXIES names this address."""
    found = _parse(address)
    networks = map(ipaddress.ip_network, settings.DORMOUSE_TRUSTED_PROXIES)
    return found is not None and any(found in network for network in networks)


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address, or None for a text that is none: PostgreSQL would refuse it."""
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None
