"""The highest id of the log that was ever seen, so that no id is given out twice.

An older copy of the database may be put in the log's place, at rest or while Dormouse runs. Its sequence would give out
ids that readers know as other events. So every process keeps the highest id that it has seen, in memory and in `var/`,
outside of the database. If the database's sequence is behind that mark, it is moved above the mark, and an event says
which ids are gone.
"""

import fcntl
import functools
import hashlib
import logging
import os
import threading
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from events import counts
from events.models import LOG_RESTORED, EventLog

logger = logging.getLogger(__name__)

#: The length of a mark in its file. All have the same, so that each is written over the one before: to empty the file
#: first took 0.6 to 1.2 ms on ext4, as long as the event's commit.
MARK_BYTES = 21
_lock = threading.Lock()
#: By file of a mark: the highest id that this process has seen.
_marks: dict[Path, int] = {}
#: The ids that are gone, until the event that says so is committed. PostgreSQL's sequence ignores a rollback.
_untold: dict[Path, tuple[int, int]] = {}


def mark_path() -> Path:
    """Return the file in which this machine keeps the mark of the database that the settings name."""
    database = connection.settings_dict
    name = " ".join(str(database.get(key) or "") for key in ("ENGINE", "HOST", "PORT", "NAME"))
    return _mark_path(settings.VAR_DIR, name)


@functools.cache
def _mark_path(folder: Path, database: str) -> Path:
    return folder / "marks" / hashlib.sha256(database.encode()).hexdigest()[:16]


def read_mark() -> int:
    """Return the highest id that this process, or another one on this machine, has seen; 0 if none is known."""
    path = mark_path()
    try:
        in_file = _parse(path.read_bytes())
    except OSError:
        in_file = 0
    return max(_marks.get(path, 0), in_file)


def note(id: int) -> None:
    """Raise the mark to `id`, if it is lower. If the file cannot be written, log that, and keep the mark in memory."""
    path = mark_path()
    with _lock:
        if id <= _marks.get(path, 0):
            return
        _marks[path] = id
    try:
        _raise_in_file(path, id)
    except OSError as error:
        logger.warning("The highest id of the event log could not be saved: %s", error)


def is_behind() -> bool:
    """Return whether the log would give out an id that was seen before. Raises DatabaseError."""
    return _last_given_out() < read_mark()


def skip_past_mark() -> None:
    """Move the sequence above the mark if it is behind, and record which ids are gone.

    Call it inside a transaction, under the writers' lock. Raises DatabaseError.
    """
    path, mark = mark_path(), read_mark()
    if _last_given_out() < mark:
        _untold[path] = EventLog.objects.bounds()[1] + 1, mark
        _move_sequence(mark)
    if path not in _untold:
        return
    first, last = _untold[path]
    told = EventLog(type=LOG_RESTORED, data={"from": first, "to": last}, at=timezone.now())
    told.save(force_insert=True)
    counts.count(told)
    logger.warning("The event log was replaced by an older copy: the events %d to %d are gone", first, last)
    transaction.on_commit(lambda: _untold.pop(path, None))


def _last_given_out() -> int:
    """Return the latest id that the database's sequence has given out, 0 for none."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_sequence_last_value(pg_get_serial_sequence('event_log', 'id')::regclass)")
        else:
            cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event_log'")
        found: Any = cursor.fetchone()
    return (found[0] or 0) if found else 0


def _move_sequence(last: int) -> None:
    """Make `last` the latest id that was given out."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT setval(pg_get_serial_sequence('event_log', 'id'), %s)", [last])
        else:
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = 'event_log'")
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('event_log', %s)", [last])


def _raise_in_file(path: Path, id: int) -> None:
    """Write `id` over the mark in the file, if that is lower. Other processes do the same at the same time."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = os.pread(file, 2 * MARK_BYTES, 0)
        if _parse(found) < id:
            os.pwrite(file, b"%0*d\n" % (MARK_BYTES - 1, id), 0)
        if len(found) > MARK_BYTES:  # it is damaged
            os.ftruncate(file, MARK_BYTES)
    finally:
        os.close(file)


def _parse(text: bytes) -> int:
    """Return the mark in a file; 0 if the file is empty or damaged."""
    return int(text) if text.strip().isdigit() else 0
