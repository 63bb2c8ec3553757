"""When something was committed: a hint to go and read the log, and nothing more."""

import threading
from typing import Any, Protocol

from django.db import DEFAULT_DB_ALIAS, connection, connections

#: The log is read this often in any case, should a hint be lost.
AT_LATEST_SECONDS = 1.0


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


KINDS: dict[str, type[Commits]] = {"sqlite": SQLiteCommits}


def commits() -> Commits:
    """Those of the default database, from now on."""
    return KINDS[connection.vendor]()
