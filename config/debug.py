"""What the pages of Django's debug mode must not show."""

import re
from types import FrameType
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter

DJANGOS = SafeExceptionReporterFilter.hidden_settings.pattern


class ReporterFilter(SafeExceptionReporterFilter):
    """Django's filter, which also hides URLs, because DATABASE_URL may hold a password.

    It hides each variable in which the request's token or session key occurs.
    """

    hidden_settings = re.compile(f"{DJANGOS}|URL|DSN|OPTIONS", re.IGNORECASE)

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> Any:
        """Return the names and values of a frame's variables."""
        found = super().get_traceback_frame_variables(request, tb_frame)
        secrets = _secrets_of(request) if request else []
        return [(name, self._hide(value, secrets)) for name, value in found]

    def _hide(self, value: Any, secrets: list[str]) -> Any:
        try:
            shown = repr(value)
        except Exception:  # Django's page says so itself
            return value
        return self.cleansed_substitute if any(secret in shown for secret in secrets) else value


def _secrets_of(request: HttpRequest) -> list[str]:
    """Return the words of the headers that let a caller in, without `Bearer`, and the session's key."""
    _, *tokens = request.headers.get("Authorization", "").split() or [""]
    session_key = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    return [secret for secret in [*tokens, request.headers.get("Dormouse-Token", ""), session_key] if secret]
