"""What would take most of the time of the suite if each test did it anew."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management.color import no_style
from django.db import connection
from django.test import TransactionTestCase
from servestatic.middleware import ServeStaticMiddleware

from events.integrity import triggers

#: What post_migrate fills. No test of more than a few changes these tables.
FILLED_BY_POST_MIGRATE = ["django_content_type", "auth_permission", "auth_group", "auth_group_permissions"]


@contextmanager
def quick_flush() -> Iterator[None]:
    """Empty the database after a transactional test in 5 ms instead of 50.

    Django's flush empties all tables and sends post_migrate, which makes the permissions and groups again. Here they
    stay if the test has left them as they were. The triggers of the log refuse each flush, so they are removed before.
    """
    flush: Callable[[TransactionTestCase], None] = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]
    filled: list[list[tuple[Any, ...]]] = []

    def empty(case: TransactionTestCase) -> None:
        triggers.remove()
        if connection.vendor == "sqlite" and filled and not case.serialized_rollback and read_filled() == filled:
            tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
            emptied = [table for table in tables if table not in FILLED_BY_POST_MIGRATE]
            connection.ops.execute_sql_flush(connection.ops.sql_flush(no_style(), emptied))
            triggers.install()
        else:
            flush(case)
            filled[:] = read_filled()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", empty)
        yield


def read_filled() -> list[list[tuple[Any, ...]]]:
    """Return the rows of each table that post_migrate fills."""
    found = []
    with connection.cursor() as cursor:
        for table in FILLED_BY_POST_MIGRATE:
            cursor.execute(f"SELECT * FROM {table} ORDER BY id")
            found.append(cursor.fetchall())
    return found


@contextmanager
def static_files_found_once() -> Iterator[None]:
    """Look for the static files once: each `Client()` loads the middleware, which takes 50 ms to find them."""
    find = ServeStaticMiddleware.add_files_from_finders
    found: dict[str, Any] = {}

    def find_once(middleware: ServeStaticMiddleware) -> None:
        if not found:
            find(middleware)
            found.update(middleware.files)
        middleware.files = dict(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServeStaticMiddleware, "add_files_from_finders", find_once)
        yield
