"""System checks that run before the server starts. They warn only, because the page says the same and keeps working."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning, register

from lifecycle.engines.process import agents_file as agents
from lifecycle.exceptions import EngineUnreachable, LabelError


@register()
def check_agents_file(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Warn if the process engine has no agents file, or if something in the file cannot be read."""
    if settings.DORMOUSE_ENGINE != "process":
        return []
    if not settings.DORMOUSE_AGENTS_FILE:
        hint = "Set DORMOUSE_AGENTS_FILE to a TOML file with one table an instance."
        return [Warning("The process engine has no instances.", hint=hint, id="lifecycle.W001")]
    try:
        tables = agents.AgentsFile(Path(settings.DORMOUSE_AGENTS_FILE)).tables()
    except EngineUnreachable as error:
        return [Warning(str(error), id="lifecycle.W002")]
    return [warning for name, table in tables.items() for warning in _check_table(name, table)]


def _check_table(name: str, table: dict[str, Any]) -> Iterator[CheckMessage]:
    try:
        agents.read_table(name, table)
    except LabelError as error:
        yield Warning(str(error), hint=f"Correct the table of {name} in the agents file.", id="lifecycle.W003")
    for sentence in agents.unknown_keys(table):
        yield Warning(f"{name}: {sentence}", id="lifecycle.W004")
