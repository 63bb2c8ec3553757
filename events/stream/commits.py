"""Watching for commits: a hint that the log may have grown, and nothing more."""

import logging
import threading
import time
from typing import Any, Protocol

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections

from events.log import NOTIFY_CHANNEL

logger = logging.getLogger(__name__)

#: The log is read at least this often, in case a hint is lost.
MAX_WAIT_SECONDS = 1.0


class CommitWatch(Protocol):
    """Waits for commits, between two reads of the log by the tail. One thread uses it; any thread may set `stopped`."""

    def wait(self, stopped: threading.Event) -> None:
        """Return soon after a commit that came after the last return, or after this object was made.

        Return after MAX_WAIT_SECONDS at the latest, or when `stopped` is set. Raises DatabaseError.
        """

    def close(self) -> None:
        """Close the connection."""


class SQLiteCommitWatch:
    """Polls `PRAGMA data_version`, which changes when another connection commits. A poll costs about 3 microseconds.

    It has a connection of its own that never writes, because a connection does not see its own commits there.
    Source: https://www.sqlite.org/pragma.html#pragma_data_version
    """

    POLL_SECONDS = 0.005

    def __init__(self) -> None:
        self._connection: Any = connections[DEFAULT_DB_ALIAS].copy()
        self._connection.ensure_connection()
        self._seen = self._version()

    def wait(self, stopped: threading.Event) -> None:
        """Return when the version has changed."""
        before = self._connection.connection
        self._connection.ensure_connection()  # opens the file anew after a checkpoint, or if another took its place
        if self._connection.connection is not before:
            self._seen = self._version()  # a new connection counts anew, so the versions cannot be compared
            return
        for _ in range(int(MAX_WAIT_SECONDS / self.POLL_SECONDS)):
            version = self._version()
            if version != self._seen:
                self._seen = version
                return
            if stopped.wait(self.POLL_SECONDS):
                return

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _version(self) -> int:
        with self._connection.wrap_database_errors:
            version: int = self._connection.connection.execute("PRAGMA data_version").fetchone()[0]
            return version


class PostgresCommitWatch:
    """Listens for notifications on a connection of its own, and reconnects if that is lost.

    Without a connection, the log is still read every MAX_WAIT_SECONDS.
    Source: https://www.postgresql.org/docs/current/sql-notify.html
    """

    #: How soon it is seen that `stopped` is set.
    SLICE_SECONDS = 0.1

    def __init__(self) -> None:
        self._connection: Any = connections[DEFAULT_DB_ALIAS].copy()
        self._is_listening = self._listen()

    def wait(self, stopped: threading.Event) -> None:
        """Return when a writer has sent a notification."""
        if self._is_listening and not self._wait_for_notification(stopped):
            self.close()
            self._is_listening = False
        if not self._is_listening:
            self._is_listening = self._listen()
            if not self._is_listening:
                stopped.wait(MAX_WAIT_SECONDS)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _listen(self) -> bool:
        """Return whether notifications of later commits will arrive."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(f"LISTEN {NOTIFY_CHANNEL}")
        except DatabaseError as error:
            logger.warning("LISTEN failed, so the log is read every %s s: %s", MAX_WAIT_SECONDS, error)
            self.close()
            return False
        return True

    def _wait_for_notification(self, stopped: threading.Event) -> bool:
        """Wait at most MAX_WAIT_SECONDS. Return False if the connection is lost."""
        end = time.monotonic() + MAX_WAIT_SECONDS
        try:
            with self._connection.wrap_database_errors:
                while not stopped.is_set() and (left := end - time.monotonic()) > 0:
                    timeout = min(left, self.SLICE_SECONDS)
                    if list(self._connection.connection.notifies(timeout=timeout, stop_after=1)):
                        return True
        except DatabaseError as error:
            logger.warning("The connection that listens to PostgreSQL is lost: %s", error)
            return False
        return True


WATCHES: dict[str, type[CommitWatch]] = {"sqlite": SQLiteCommitWatch, "postgresql": PostgresCommitWatch}


def watch_commits() -> CommitWatch:
    """Return a watch on the default database, which sees commits from now on."""
    return WATCHES[connection.vendor]()
