"""The TOML file that names local processes, with one table for each.

    [reviewer-default]
    command = "python -m reviewer"
    port = 9001
    idle-timeout = "15m"

The keys are those of the labels, without the prefix, and `command`.
"""

import shlex
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lifecycle.engines import labels
from lifecycle.exceptions import EngineUnreachable, LabelError, Missing

#: The longest name, quoted, that fits into a file's name. A character beyond ASCII takes up to twelve.
MAX_QUOTED_NAME_CHARACTERS = 200


class AgentsFile:
    """The agents file at `path`, which is read anew at each call. None: there is no file, and no instance."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @property
    def folder(self) -> Path:
        """The folder of the file, to which a command's paths are relative."""
        assert self._path is not None, "there are no instances without a file"
        return self._path.resolve().parent

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return every table by its name. Raises EngineUnreachable if the file cannot be read."""
        if self._path is None:
            return {}
        try:
            tables = tomllib.loads(self._path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise self._unreadable(error) from error
        outside = sorted(name for name, table in tables.items() if not isinstance(table, dict))
        if outside:
            raise self._unreadable(f"{', '.join(outside)} stands outside the table of an instance")
        long = [name for name in tables if len(quote(name, safe="")) > MAX_QUOTED_NAME_CHARACTERS]
        if long:
            raise self._unreadable(f"the name {long[0][:40]}… is too long")
        return tables

    def table(self, name: str) -> dict[str, Any]:
        """Return the table of one instance. Raises Missing if there is none, and EngineUnreachable."""
        try:
            return self.tables()[name]
        except KeyError:
            raise Missing(name, remedy=f"write a table [{name}] into the agents file") from None

    def _unreadable(self, why: object) -> EngineUnreachable:
        return EngineUnreachable(f"the agents file {self._path} cannot be read: {why}", was_asked=False)


def read_table(name: str, table: Mapping[str, Any]) -> labels.Labels:
    """Return the keys of the instance, parsed. Raises LabelError, which names the key without a prefix."""
    command_words(name, table)
    if table.get("ready") == "health":
        raise LabelError(name, "ready", "health", "is for containers: use http, tcp or running")
    try:
        return labels.read(name, label_texts(table))
    except LabelError as error:
        key, reason = (text.replace(labels.PREFIX, "") for text in (error.label, error.reason))
        raise LabelError(name, key, error.value, reason) from None


def unknown_keys(table: Mapping[str, Any]) -> list[str]:
    """Return a sentence on each key that is not ours, with the key that was probably meant."""
    known = ["command", *labels.BY_KEY]
    near = {key: get_close_matches(key, known, n=1) for key in table if key not in known}
    return [
        f"{key} is no key of an agent" + (f", did you mean {meant[0]}?" if meant else "") for key, meant in near.items()
    ]


def label_texts(table: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of a table as labels. A value may be a number."""
    return {f"{labels.PREFIX}{key}": str(value) for key, value in table.items() if key != "command"}


def listed_labels(table: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels and the command: if one of them changes, the reconciler inspects the instance again."""
    return label_texts(table) | {"command": str(table.get("command", ""))}


def command_words(name: str, table: Mapping[str, Any]) -> list[str]:
    """Return the command's words, read as a shell reads them. Raises LabelError if they cannot be read."""
    command = table.get("command")
    if command is None:
        raise LabelError(name, "command", "", "; ".join(["is not set", *unknown_keys(table)]))
    try:
        words = shlex.split(command) if isinstance(command, str) else list(map(str, command))
    except (TypeError, ValueError) as error:
        raise LabelError(name, "command", str(command), f"cannot be read: {error}") from None
    if not words:
        raise LabelError(name, "command", str(command), "is empty")
    return words
