"""The one writer of the event log."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.utils import timezone

from events import counts
from events.integrity import high_water
from events.models import LOG_RESTORED, EventLog

MAX_DATA_BYTES = 64 * 1024
#: Deeper data could be written, but not be read by code that is deep in its own stack. One such row would end every
#: stream.
MAX_DATA_DEPTH = 100
MAX_INSTANCE_CHARACTERS = 255
TYPE = re.compile(r"[!-~]([ -~]{0,98}[!-~])?")
#: Names that mean something else on the stream, or in a browser's EventSource, and the one that only Dormouse records.
RESERVED_TYPES = {"keep-alive", "open", "message", "error", LOG_RESTORED}
#: The number of PostgreSQL's advisory lock: "dormouse" in ASCII.
ADVISORY_LOCK = int.from_bytes(b"dormouse")
#: The channel on which PostgreSQL's writers send a notification with their commit.
NOTIFY_CHANNEL = "event_log"
#: PostgreSQL stores neither NUL nor a lone surrogate in a text.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def record(
    type: str, *, instance: str = "", data: Mapping[str, Any] | None = None, at: datetime | None = None
) -> EventLog:
    """Append an event, in the caller's transaction if there is one. Make it the last statement of that transaction.

    Args:
        type: at most 100 printable ASCII characters, by convention with dots (`deploy.finished`).
        instance: the name of the instance that the event is about; at most 255 characters.
        data: becomes a JSON object of at most 64 KiB.
        at: when it happened, with a time zone; by default now.

    Raises:
        ValueError: the log cannot keep this type, instance or data.
        TypeError: the data cannot be JSON.
        OperationalError: other writers did not let this one have its turn in time.
    """
    if not TYPE.fullmatch(type) or type in RESERVED_TYPES or type.startswith("stream-"):
        raise ValueError(
            f"{type!r} is no event type: at most 100 printable ASCII characters, and none of the stream's own"
        )
    if len(instance) > MAX_INSTANCE_CHARACTERS:
        raise ValueError(f"an instance's name has at most {MAX_INSTANCE_CHARACTERS} characters, not {len(instance)}")
    row = EventLog(
        type=type, instance=replace_unstorable(instance), data=_check_data(dict(data or {})), at=at or timezone.now()
    )
    with transaction.atomic():
        _wait_for_turn()
        high_water.skip_past_mark()
        row.save(force_insert=True)
        counts.count(row)
        transaction.on_commit(lambda: high_water.note(row.id))
    return row


def skip_past_mark() -> None:
    """Make sure that the log is not an older copy of itself. Raises DatabaseError."""
    if high_water.is_behind():
        with transaction.atomic():
            _wait_for_turn()
            high_water.skip_past_mark()


def replace_unstorable(text: str) -> str:
    """Return `text` with U+FFFD in place of NUL and lone surrogates."""
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _wait_for_turn() -> None:
    """Let no other writer take an id until the end of the transaction, so that ids are in the order of the commits.

    SQLite has one writer at a time. PostgreSQL could commit a lower id after a higher one, and readers would miss it.
    The lock is a statement before the INSERT, because the INSERT takes its id before a trigger could lock.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s), pg_notify(%s, '')", [ADVISORY_LOCK, NOTIFY_CHANNEL])


def _check_data(data: dict[str, Any]) -> dict[str, Any]:
    """Return `data` as it will be read back. Its size is that of its JSON in UTF-8."""
    text = json.dumps(data, cls=DjangoJSONEncoder, allow_nan=False, ensure_ascii=False)
    kept = _replace_unstorable_in(json.loads(text))
    size_bytes = len(json.dumps(kept, ensure_ascii=False).encode())
    if size_bytes > MAX_DATA_BYTES:
        raise ValueError(f"the data of an event has at most {MAX_DATA_BYTES} bytes as JSON, not {size_bytes}")
    assert isinstance(kept, dict)
    return kept


def _replace_unstorable_in(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DATA_DEPTH:
        raise ValueError(f"the data of an event is nested at most {MAX_DATA_DEPTH} deep")
    if isinstance(value, str):
        return replace_unstorable(value)
    if isinstance(value, list):
        return [_replace_unstorable_in(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {replace_unstorable(key): _replace_unstorable_in(item, depth + 1) for key, item in value.items()}
    return value
