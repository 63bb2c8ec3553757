"""Triggers of the database that make the event log append-only, for every program that writes to it.

They are installed after every migrate, because SQLite rebuilds a table to alter it and drops its triggers without a
word. Before a migrate that alters these tables they are removed from SQLite, which does not rebuild a table that a
trigger names.

In PostgreSQL they are replaced, and not dropped and made: a drop waits for every reader, such as a pg_dump that runs
for an hour, and all others would wait behind it.
"""

from typing import Any

from django.db import connections, transaction
from django.db.migrations import Migration

TABLE = "event_log"
FLOOR_TABLE = "event_log_floor"
FLOOR = "COALESCE((SELECT MAX(floor) FROM event_log_floor), 0)"
#: The message of the database's error.
REFUSAL = "the event log is append-only"

#: INSERT OR REPLACE deletes a row without running its DELETE trigger, so an INSERT of an id that exists is refused. In
#: an INSERT without an id, NEW.id is -1 here.
SQLITE = {
    "event_log_no_update": "BEFORE UPDATE ON event_log",
    "event_log_no_replace": "BEFORE INSERT ON event_log WHEN EXISTS (SELECT 1 FROM event_log WHERE id = NEW.id)",
    "event_log_no_delete": f"BEFORE DELETE ON event_log WHEN OLD.id > {FLOOR}",
}
POSTGRESQL = {
    "event_log_no_update": "BEFORE UPDATE ON event_log FOR EACH ROW",
    "event_log_no_delete": "BEFORE DELETE ON event_log FOR EACH ROW",
    "event_log_no_truncate": "BEFORE TRUNCATE ON event_log FOR EACH STATEMENT",
}
#: In PostgreSQL the primary key refuses an id that exists. The condition for DELETE is in the function, because a WHEN
#: clause cannot read another table.
POSTGRESQL_FUNCTION = f"""
CREATE OR REPLACE FUNCTION event_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.id <= {FLOOR} THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '{REFUSAL}';
END $$
"""


def remove_before_migrate(plan: list[tuple[Migration, bool]], using: str = "default", **kwargs: Any) -> None:
    """Remove the triggers from SQLite before a migrate that touches this app's tables."""
    is_sqlite = connections[using].vendor == "sqlite"
    if is_sqlite and any(migration.app_label == "events" for migration, backwards in plan):
        remove(using)


def install(using: str = "default", **kwargs: Any) -> None:
    """Install the triggers after a migrate. Do nothing if the tables do not exist yet."""
    connection = connections[using]
    if not {TABLE, FLOOR_TABLE} <= set(connection.introspection.table_names()):
        return
    with transaction.atomic(using), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(POSTGRESQL_FUNCTION)
            for name, event in POSTGRESQL.items():
                cursor.execute(f"CREATE OR REPLACE TRIGGER {name} {event} EXECUTE FUNCTION event_log_refuse()")
        else:
            remove(using)
            for name, event in SQLITE.items():
                cursor.execute(f"CREATE TRIGGER {name} {event} BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END")


def remove(using: str = "default") -> None:
    """Remove the triggers until the next migrate, or the next flush of a test database."""
    connection = connections[using]
    is_postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        for name in POSTGRESQL if is_postgresql else SQLITE:
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}" + (f" ON {TABLE}" if is_postgresql else ""))
