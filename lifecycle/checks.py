"""System checks. They warn only, because the page says the same and keeps working.

Those of files run before each command. Those that ask the database and the engine run with `manage.py check --deploy`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Warning, register
from django.db import DatabaseError

from access.database import NOT_MIGRATED, is_migrated
from lifecycle.engines import engine_from_settings
from lifecycle.engines.process import agents_file as agents
from lifecycle.exceptions import EngineError, EngineUnreachable, LabelError


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


@register(deploy=True)
def check_database(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Warn if the database does not answer, or is not migrated."""
    try:
        return [] if is_migrated() else [Warning(NOT_MIGRATED, id="lifecycle.W005")]
    except DatabaseError as error:
        return [Warning(f"The database cannot be used: {error}", hint="Look at DATABASE_URL.", id="lifecycle.W006")]


@register(deploy=True)
def check_engine(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Warn if the engine cannot list its instances."""
    try:
        engine_from_settings().instances()
    except EngineError as error:
        return [Warning(str(error), id="lifecycle.W007")]
    return []


@register(deploy=True)
def check_proxy_settings(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Warn of settings for a proxy that do not fit each other."""
    found: list[CheckMessage] = []
    if settings.HTTPS and not settings.DORMOUSE_TRUSTED_PROXIES:
        sentence = "DJANGO_HTTPS is true, so a proxy is in front, but DORMOUSE_TRUSTED_PROXIES names none."
        hint = "Without it wrong passwords of one person lock out everybody, because all have the address of the proxy."
        found.append(Warning(sentence, hint=hint, id="lifecycle.W008"))
    public, base_path = urlsplit(settings.DORMOUSE_PUBLIC_URL), settings.DORMOUSE_BASE_PATH
    if public.netloc and public.path != base_path:
        sentence = f"The path of DORMOUSE_PUBLIC_URL is {public.path!r}, and DORMOUSE_BASE_PATH is {base_path!r}."
        hint = "Let both be the same, or the links in messages lead nowhere."
        found.append(Warning(sentence, hint=hint, id="lifecycle.W009"))
    return found
