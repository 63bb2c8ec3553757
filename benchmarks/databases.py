"""A PostgreSQL to measure on. SQLite files are made by the sections themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.postgres.cluster import Cluster, programs


@contextmanager
def postgresql() -> Iterator[Cluster | None]:
    """Start a cluster with an empty database `postgres`, and remove it at the end. None: it is not installed."""
    if not programs():
        yield None
        return
    cluster = Cluster()
    try:
        yield cluster.start()
    finally:
        cluster.remove()
