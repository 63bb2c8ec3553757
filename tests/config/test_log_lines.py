"""docs/operations.md explains each log line of level WARNING and above."""

import ast
import re

import pytest

from lifecycle.transitions.claims import LOG_MESSAGES
from tests.servers import PROJECT

APPS = ("access", "agents_ui", "config", "events", "lifecycle", "telling")
LEVELS = {"warning", "error", "exception", "critical"}
PLACEHOLDER = re.compile(r"%\w|%\.?\d*\w")


def warnings():
    """Yield the place and the text of each such line that has words of its own."""
    for app in APPS:
        for path in sorted((PROJECT / app).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                text = _text(node)
                if text and max(PLACEHOLDER.split(text), key=len).strip(" :'\""):
                    yield pytest.param(text, id=f"{path.relative_to(PROJECT)}: {text}")


def _text(node):
    """Return the text of a call such as `logger.warning("...")`, or None."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=level), args=[text, *_]) if level in LEVELS:
            return _constant(text)
    return None


def _constant(node):
    """Return a string, of `error or "text"` the latter."""
    parts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return max(parts, key=len, default="")


@pytest.fixture(scope="module")
def lines():
    """The first column of the table."""
    section = (PROJECT / "docs" / "operations.md").read_text().partition("## What the log says")[2]
    rows = [row for row in section.partition("\n## ")[0].splitlines() if row.startswith("| `")]
    return "\n".join(row.split(" | ")[0] for row in rows)


@pytest.mark.parametrize("text", [*warnings(), *(text for level, text in LOG_MESSAGES.values() if level >= 30)])
def test_it_is_in_the_table(lines, text):
    assert max(PLACEHOLDER.split(text), key=len).strip(" :;,.()'\"") in lines


def test_there_are_as_many_as_known_when_this_was_written():
    """Else the search above does not find them any more."""
    assert len(list(warnings())) > 40
