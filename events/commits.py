"""When something was committed: a hint to go and read the log, and nothing more."""

import logging
import threading
import time
from typing import Any, Protocol

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections

logger = logging.getLogger(__name__)

#: The log is read this often in any case, should a hint be lost.
AT_LATEST_SECONDS = 1.0
#: What PostgreSQL's writers notify, with their commit.
CHANNEL = "event_log"


class Commits(Protocol):
    """What the tail waits for between two readings of the log. For one thread, except for `stopped`."""

    def wait(self, stopped: threading.Event) -> None:
        """Returns soon after a commit that came after the last return (or after the making of this object).

        At the latest after AT_LATEST_SECONDS, or when `stopped` is set. Raises DatabaseError.
        """

    def close(self) -> None: ...


class SQLiteCommits:
    """Polls `PRAGMA data_version`, which other connections' commits change; a poll costs some 3 microseconds.

    See https://www.sqlite.org/pragma.html#pragma_data_version. The connection is one of its own that never writes,
    for a connection does not see its own commits there.
    """

    POLL_SECONDS = 0.005

    def __init__(self) -> None:
        self._connection: Any = connections[DEFAULT_DB_ALIAS].copy()
        self._connection.ensure_connection()
        self._seen = self._version()

    def wait(self, stopped: threading.Event) -> None:
        for _ in range(int(AT_LATEST_SECONDS / self.POLL_SECONDS)):
            version = self._version()
            if version != self._seen:
                self._seen = version
                return
            if stopped.wait(self.POLL_SECONDS):
                return

    def close(self) -> None:
        self._connection.close()

    def _version(self) -> int:
        with self._connection.wrap_database_errors:
            version: int = self._connection.connection.execute("PRAGMA data_version").fetchone()[0]
            return version


class PostgresCommits:
    """LISTENs on a connection of its own, and reconnects it. Meanwhile, and in any case, there is AT_LATEST_SECONDS.

    See https://www.postgresql.org/docs/current/sql-notify.html.
    """

    #: How soon `stopped` is seen.
    SLICE_SECONDS = 0.1

    def __init__(self) -> None:
        self._connection: Any = connections[DEFAULT_DB_ALIAS].copy()
        self._listens = self._listen()

    def wait(self, stopped: threading.Event) -> None:
        if self._listens and not self._hear(stopped):
            self.close()
            self._listens = False
        if not self._listens:
            self._listens = self._listen()
            if not self._listens:
                stopped.wait(AT_LATEST_SECONDS)

    def close(self) -> None:
        self._connection.close()

    def _listen(self) -> bool:
        """Whether what is committed from now on will be heard."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
        except DatabaseError as error:
            logger.warning("PostgreSQL cannot be listened to; the log is read every %s s: %s", AT_LATEST_SECONDS, error)
            self.close()
            return False
        return True

    def _hear(self, stopped: threading.Event) -> bool:
        """Waits for a notification, at most AT_LATEST_SECONDS. False where the connection is lost."""
        end = time.monotonic() + AT_LATEST_SECONDS
        try:
            with self._connection.wrap_database_errors:
                while not stopped.is_set() and (left := end - time.monotonic()) > 0:
                    slice = min(left, self.SLICE_SECONDS)
                    if list(self._connection.connection.notifies(timeout=slice, stop_after=1)):
                        return True
        except DatabaseError as error:
            logger.warning("The connection that listens to PostgreSQL is lost: %s", error)
            return False
        return True


KINDS: dict[str, type[Commits]] = {"sqlite": SQLiteCommits, "postgresql": PostgresCommits}


def commits() -> Commits:
    """Those of the default database, from now on."""
    return KINDS[connection.vendor]()
