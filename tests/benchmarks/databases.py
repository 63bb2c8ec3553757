"""Databases to measure on, beside the SQLite files that every section makes for itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgresql(folder: Path) -> Iterator[tuple[str, str]]:
    """The DATABASE_URL of a server of its own; or why there is none."""
    yield "", "PostgreSQL is not supported yet."
