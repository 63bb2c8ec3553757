"""System checks that run before the server starts. They warn only, because the page says the same and keeps working."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning, register


@register()
def check_agents_file(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Warn if the process engine has no agents file to read."""
    if settings.DORMOUSE_ENGINE != "process":
        return []
    if not settings.DORMOUSE_AGENTS_FILE:
        hint = "Set DORMOUSE_AGENTS_FILE to a TOML file with one table an instance."
        return [Warning("The process engine has no instances.", hint=hint, id="lifecycle.W001")]
    if not Path(settings.DORMOUSE_AGENTS_FILE).is_file():
        return [Warning(f"There is no agents file {settings.DORMOUSE_AGENTS_FILE}.", id="lifecycle.W002")]
    return []
