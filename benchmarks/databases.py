"""Databases to measure on, beside the SQLite files that sections make for themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.postgres.cluster import Cluster, programs


@contextmanager
def postgresql() -> Iterator[Cluster | None]:
    """A cluster of its own, whose database `postgres` is empty; None where PostgreSQL is not installed."""
    if not programs():
        yield None
        return
    cluster = Cluster()
    try:
        yield cluster.start()
    finally:
        cluster.remove()
