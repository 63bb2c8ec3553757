"""Databases to measure on, beside the SQLite files that sections make for themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.postgres.cluster import Cluster, programs


@contextmanager
def postgresql() -> Iterator[str]:
    """The DATABASE_URL of an empty database in a cluster of its own; empty where PostgreSQL is not installed."""
    if not programs():
        yield ""
        return
    cluster = Cluster()
    try:
        yield cluster.start().url("postgres")
    finally:
        cluster.remove()
