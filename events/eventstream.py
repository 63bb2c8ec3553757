"""django-eventstream over the event log: what any app sends by `send_event("events", type, data)` is an event."""

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

#: The one channel that is kept. What is sent on another reaches nobody: Dormouse serves no other stream.
CHANNEL = "events"


class EventLogStorage(StorageBase):  # type: ignore[misc]  # the library is not typed
    """The library's storage, in the table `event_log`."""

    def append_event(self, channel: str, event_type: str, data: Any) -> Event:
        """Records an event, in the caller's transaction. `data` is the JSON text that `send_event` makes.

        Raises what `events.log.record` raises.
        """
        content = as_object(data)
        instance = content.get("instance")
        row = record(event_type, instance=instance if isinstance(instance, str) else "", data=content)
        return as_event(row)

    def get_events(self, channel: str, last_id: int, limit: int = 100) -> list[Event]:
        """At most `limit` events after `last_id`, oldest first.

        Raises EventDoesNotExist, with the current id, where something between may be missing: `last_id` is in the
        future, or older than what is kept.
        """
        rows, floor = EventLog.objects.after(last_id)[:limit].read() if channel == CHANNEL else ([], 0)
        latest = rows[-1].id if rows else self.get_current_id(channel)
        if not floor <= last_id <= latest:
            raise EventDoesNotExist(f"no event {last_id} is kept", self.get_current_id(channel))
        return [as_event(row) for row in rows]

    def get_current_id(self, channel: str) -> int:
        """The id of the latest event, 0 in an empty log."""
        return EventLog.objects.bounds()[1] if channel == CHANNEL else 0


class EventLogChannelManager(DefaultChannelManager):  # type: ignore[misc]  # the library is not typed
    """Who may read which of the library's channels."""

    def can_read_channel(self, user: Any, channel: str) -> bool:
        return channel == CHANNEL and user is not None and bool(user.has_perm(VIEW_EVENTS))

    def is_channel_reliable(self, channel: str) -> bool:
        """Whether the channel is kept in the log."""
        return channel == CHANNEL


def as_object(data: Any) -> dict[str, Any]:
    """`data`, or the JSON text of it, as an object; what is no object becomes its `value`."""
    if isinstance(data, str):
        with suppress(ValueError):  # a text sent with json_encode=False may be no JSON
            data = json.loads(data)
    return dict(data) if isinstance(data, Mapping) else {"value": data}


def as_event(row: EventLog) -> Event:
    """The library's idea of an event. Its data is JSON text, as in `send_event`."""
    return Event(CHANNEL, row.type, payload(row), id=row.id)


def payload(row: EventLog) -> str:
    return json.dumps(row.payload(), ensure_ascii=False)


def encode(row: EventLog) -> bytes:
    """An event as the stream carries it."""
    return _sse(row.type, payload(row), row.id)


def encode_own(type: str, id: int, **data: Any) -> bytes:
    """One of the stream's own messages. With data and an id, because clients forget an id that comes without data."""
    return _sse(type, json.dumps(data or {"cursor": id}), id)


def _sse(type: str, text: str, id: int) -> bytes:
    encoded: str = sse_encode_event(type, text, event_id=str(id))
    return encoded.encode()
