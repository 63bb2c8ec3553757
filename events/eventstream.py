"""django-eventstream on top of the event log.

What any app sends with `send_event("events", type, data)` is recorded as an event. This is the one module that imports
the library.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django_eventstream.channelmanager import DefaultChannelManager
from django_eventstream.event import Event
from django_eventstream.storage import EventDoesNotExist, StorageBase
from django_eventstream.utils import sse_encode_event

from access.permissions import VIEW_EVENTS
from events.log import record
from events.models import EventLog

#: The one channel that is kept. What is sent on another channel reaches no reader.
CHANNEL = "events"


class EventLogStorage(StorageBase):  # type: ignore[misc]  # the library is not typed
    """The library's storage, in the table `event_log`."""

    def append_event(self, channel: str, event_type: str, data: Any) -> Event:
        """Record an event, in the caller's transaction. `data` is the JSON text that `send_event` makes.

        Raises what `events.log.record` raises.
        """
        content = parse_object(data)
        instance = content.get("instance")
        row = record(event_type, instance=instance if isinstance(instance, str) else "", data=content)
        return as_event(row)

    def get_events(self, channel: str, last_id: int, limit: int = 100) -> list[Event]:
        """Return at most `limit` events after `last_id`, oldest first.

        Raises EventDoesNotExist, with the current id, if events after `last_id` may be missing: it is in the future,
        below the oldest event kept, or from a log that was replaced by an older copy.
        """
        rows, floor = EventLog.objects.after(last_id)[:limit].read() if channel == CHANNEL else ([], 0)
        latest = rows[-1].id if rows else self.get_current_id(channel)
        if not floor <= last_id <= latest or EventLog.objects.find_restored(last_id) is not None:
            raise EventDoesNotExist(f"no event {last_id} is kept", self.get_current_id(channel))
        return [as_event(row) for row in rows]

    def get_current_id(self, channel: str) -> int:
        """Return the id of the latest event, 0 in an empty log."""
        return EventLog.objects.bounds()[1] if channel == CHANNEL else 0


class EventLogChannelManager(DefaultChannelManager):  # type: ignore[misc]  # the library is not typed
    """Decides which user may read which of the library's channels."""

    def can_read_channel(self, user: Any, channel: str) -> bool:
        """Return whether `user` may read the log, and `channel` is the log."""
        return channel == CHANNEL and user is not None and bool(user.has_perm(VIEW_EVENTS))

    def is_channel_reliable(self, channel: str) -> bool:
        """Return whether the channel is kept in the log."""
        return channel == CHANNEL


def parse_object(data: Any) -> dict[str, Any]:
    """Return `data`, or the JSON text in it, as an object. A value that is no object becomes `{"value": ...}`."""
    if isinstance(data, str):
        with suppress(ValueError):  # a text sent with json_encode=False may be no JSON
            data = json.loads(data)
    return dict(data) if isinstance(data, Mapping) else {"value": data}


def as_event(row: EventLog) -> Event:
    """Return a row of the log as the library's event, whose data is a JSON text."""
    return Event(CHANNEL, row.type, payload_json(row), id=row.id)


def payload_json(row: EventLog) -> str:
    """Return the JSON text that the stream carries for a row of the log."""
    return json.dumps(row.payload(), ensure_ascii=False)


def encode(row: EventLog) -> bytes:
    """Return a row of the log as the bytes of a server-sent event."""
    return _encode_sse(row.type, payload_json(row), row.id)


def encode_own(type: str, id: int, **data: Any) -> bytes:
    """Return one of the stream's own events as bytes.

    It has data and an id, because some clients forget an id that comes without data.
    """
    return _encode_sse(type, json.dumps(data or {"cursor": id}), id)


def _encode_sse(type: str, text: str, id: int) -> bytes:
    encoded: str = sse_encode_event(type, text, event_id=str(id))
    return encoded.encode()
