"""Append-only by the database: triggers refuse what would change history, whoever asks.

They are installed after every migrate, because SQLite rebuilds a table to alter it and drops its triggers silently. A
migrate that touches the log is not held up by them.
"""

from typing import Any

from django.db import connections, transaction
from django.db.migrations import Migration

TABLE = "event_log"
FLOOR_TABLE = "event_log_floor"
FLOOR = "COALESCE((SELECT MAX(floor) FROM event_log_floor), 0)"
SAYING = "the event log is append-only"

#: INSERT OR REPLACE deletes a row without asking a DELETE trigger, so it is refused before. An id that SQLite is to
#: choose is -1 here.
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
#: An id that exists is refused by the primary key there; a WHEN clause cannot ask another table, so the function does.
POSTGRESQL_FUNCTION = f"""
CREATE OR REPLACE FUNCTION event_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.id <= {FLOOR} THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '{SAYING}';
END $$
"""


def make_way(plan: list[tuple[Migration, bool]], using: str = "default", **kwargs: Any) -> None:
    """Before a migrate that alters these tables: SQLite rebuilds none that a trigger names."""
    if any(migration.app_label == "events" for migration, backwards in plan):
        remove(using)


def install(using: str = "default", **kwargs: Any) -> None:
    """After a migrate. Does nothing as long as there is no log."""
    connection = connections[using]
    if not {TABLE, FLOOR_TABLE} <= set(connection.introspection.table_names()):
        return
    with transaction.atomic(using), connection.cursor() as cursor:
        remove(using)
        if connection.vendor == "postgresql":
            cursor.execute(POSTGRESQL_FUNCTION)
            for name, when in POSTGRESQL.items():
                cursor.execute(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION event_log_refuse()")
        else:
            for name, when in SQLITE.items():
                cursor.execute(f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, '{SAYING}'); END")


def remove(using: str = "default") -> None:
    """For a moment: they come back with the next migrate, and with the flush that a test empties its database by."""
    connection = connections[using]
    postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        for name in POSTGRESQL if postgresql else SQLITE:
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}" + (f" ON {TABLE}" if postgresql else ""))
