"""The one writer of the event log."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.utils import timezone

from events.commits import CHANNEL
from events.models import EventLog

MAX_DATA_BYTES = 64 * 1024
#: What can be written must be readable wherever it is read, also far down a stack: one such row would stop the stream.
MAX_DEPTH = 100
TYPE = re.compile(r"[!-~]([ -~]{0,98}[!-~])?")
#: Names that mean something else on the stream or in a browser's EventSource.
RESERVED = {"keep-alive", "open", "message", "error"}
#: Of PostgreSQL's advisory lock: "dormouse" in ASCII.
LOCK = int.from_bytes(b"dormouse")
#: PostgreSQL keeps neither of them in a text.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def record(
    type: str, *, instance: str = "", data: Mapping[str, Any] | None = None, at: datetime | None = None
) -> EventLog:
    """Appends an event, in the caller's transaction where there is one; make it the last statement of that.

    `type` is at most 100 printable ASCII characters, dotted by custom (`deploy.finished`); `data` becomes a JSON object
    of at most 64 KiB; `at` is when it happened (aware), by default now.

    Raises ValueError for a type, an instance or data that the log cannot keep, TypeError for data that JSON cannot, and
    OperationalError where other writers did not let it come to its turn.
    """
    if not TYPE.fullmatch(type) or type in RESERVED or type.startswith("stream-"):
        raise ValueError(
            f"{type!r} is no event type: at most 100 printable ASCII characters, and none of the stream's own"
        )
    if len(instance) > 255:
        raise ValueError(f"an instance's name has at most 255 characters, not {len(instance)}")
    row = EventLog(type=type, instance=storable(instance), data=_checked(dict(data or {})), at=at or timezone.now())
    with transaction.atomic():
        _take_turn()
        row.save(force_insert=True)
    return row


def _take_turn() -> None:
    """Until the end of the transaction nobody else gets an id, so that the order of ids is that of the commits.

    SQLite has one writer at a time anyway. PostgreSQL could commit a lower id after a higher one, which readers would
    miss. The lock is a statement before the INSERT, for an id is taken before a trigger of the table could lock.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s), pg_notify(%s, '')", [LOCK, CHANNEL])


def _checked(data: dict[str, Any]) -> dict[str, Any]:
    """`data` as it will be read back. The size is that of its JSON in UTF-8."""
    text = json.dumps(data, cls=DjangoJSONEncoder, allow_nan=False, ensure_ascii=False)
    kept = _storable_json(json.loads(text))
    size = len(json.dumps(kept, ensure_ascii=False).encode())
    if size > MAX_DATA_BYTES:
        raise ValueError(f"the data of an event has at most {MAX_DATA_BYTES} bytes as JSON, not {size}")
    assert isinstance(kept, dict)
    return kept


def _storable_json(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"the data of an event is nested at most {MAX_DEPTH} deep")
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_storable_json(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {storable(key): _storable_json(item, depth + 1) for key, item in value.items()}
    return value


def storable(text: str) -> str:
    """`text` with U+FFFD in place of NUL and lone surrogates."""
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)
