"""Django's SQLite backend, with a lock so that the transactions of one process take turns, and with waits in Python.

SQLite's own waiting is unfair: of 50 threads the slowest waited 2.2 s with it, and 0.5 s with this lock. Between
processes SQLite's own lock works (`BEGIN IMMEDIATE`).

SQLite's own waiting also holds the connection's mutex, for up to the whole busy timeout. Python's garbage collector may
finalise a cursor of that connection in any thread, and waits for the mutex there: the event loop stood still for up to
20 s. So SQLite never waits (its busy timeout is 0), and what finds the database locked is tried again from here.
"""

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from django.db import OperationalError
from django.db.backends.sqlite3 import base

T = TypeVar("T")

#: How often a locked database is tried again.
POLL_SECONDS = 0.01
_locks: dict[str, threading.Lock] = {}
#: The files that this process has opened once. If one is deleted, SQLite must not make an empty one in its place.
_opened: set[Path] = set()


def wait_while_locked(seconds: float, attempt: Callable[[], T], in_transaction: Callable[[], bool] = bool) -> T:
    """Return what `attempt` returns. Repeat it for up to `seconds` while another process has locked the database.

    Inside a transaction nothing is repeated, because SQLite may ask for the whole transaction again.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or in_transaction() or time.monotonic() > end:
                raise
        time.sleep(POLL_SECONDS)


class Connection(sqlite3.Connection):
    """A connection whose cursors wait for up to `wait_seconds` while another process has locked the database."""

    wait_seconds = 0.0


class Cursor(base.SQLiteCursorWrapper):
    """Django's cursor, which waits in Python."""

    connection: Connection

    def execute(self, *arguments: Any) -> Any:
        """Execute a statement, and wait while the database is locked."""
        return self._wait(lambda: super(Cursor, self).execute(*arguments))

    def executemany(self, query: str, param_list: Any) -> Any:
        """Execute a statement for each set of parameters, and wait while the database is locked."""
        param_list = list(param_list)
        return self._wait(lambda: super(Cursor, self).executemany(query, param_list))

    def _wait(self, attempt: Callable[[], T]) -> T:
        return wait_while_locked(self.connection.wait_seconds, attempt, lambda: self.connection.in_transaction)


class DatabaseWrapper(base.DatabaseWrapper):
    """Takes the lock at BEGIN, and releases it at COMMIT, ROLLBACK or close.

    Raises `OperationalError` ("database is locked") if it does not get the lock within the timeout.
    """

    _has_lock = False
    _file: tuple[int, int, int] | None = None

    def ensure_connection(self) -> None:
        """Open a connection if there is none, or if the database's file is not the one that was opened."""
        if self.connection is not None and not self.in_atomic_block and self._file != self._find_file():
            self.close()
        super().ensure_connection()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        """Open a connection, and wait while the database is locked."""
        conn_params |= {"timeout": 0, "factory": Connection}
        path = Path(self.settings_dict["NAME"])
        if path in _opened:
            conn_params |= {"database": f"{path.absolute().as_uri()}?mode=rw", "uri": True}
        self._file = self._find_file()
        connect = super().get_new_connection
        connection: Connection = wait_while_locked(self._wait_seconds(), lambda: connect(conn_params))
        connection.wait_seconds = self._wait_seconds()
        _opened.add(path)
        return connection

    def create_cursor(self, name: str | None = None) -> Cursor:
        """Return a cursor that waits in Python."""
        cursor: Cursor = self.connection.cursor(factory=Cursor)
        return cursor

    def _find_file(self) -> tuple[int, int, int] | None:
        """Return what tells the database's file from another one, or None if there is no file."""
        try:
            found = Path(self.settings_dict["NAME"]).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns

    def _wait_seconds(self) -> float:
        seconds: float = self.settings_dict["OPTIONS"].get("timeout", 5)
        return seconds

    def _start_transaction_under_autocommit(self) -> None:
        lock = self._lock()
        if not lock.acquire(timeout=self._wait_seconds()):
            raise OperationalError("database is locked")
        self._has_lock = True
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # the stubs lack it
        except BaseException:
            self._release()
            raise

    def _commit(self) -> Any:
        result = super()._commit()  # type: ignore[misc]  # the stubs lack it
        self._release()
        return result

    def _rollback(self) -> Any:
        try:
            return super()._rollback()  # type: ignore[misc]  # the stubs lack it
        finally:
            self._release()

    def _close(self) -> Any:
        try:
            return super()._close()  # type: ignore[misc]  # the stubs lack it
        finally:
            self._release()

    def _lock(self) -> threading.Lock:
        return _locks.setdefault(str(self.settings_dict["NAME"]), threading.Lock())

    def _release(self) -> None:
        if self._has_lock:
            self._has_lock = False
            self._lock().release()
