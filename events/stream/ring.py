"""The newest events, each encoded once, for every reader of this process."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from events.models import is_of_types


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as bytes of the stream, with the fields that a reader may filter by."""

    id: int
    type: str
    instance: str
    body: bytes


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The events that a reader wants to see. An empty set does not filter. `container.*` stands for many types."""

    instances: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()

    def matches(self, entry: Entry) -> bool:
        """Return whether the reader wants to see `entry`."""
        is_of_instances = not self.instances or entry.instance in self.instances
        return is_of_instances and (not self.types or is_of_types(entry.type, self.types))


EVERYTHING = EventFilter()

#: How many chunks are kept, so that readers at the same position share the same bytes.
MAX_SHARED_CHUNKS = 64


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes to send (perhaps none), and the cursor after them: up to it, nothing else was to be sent."""

    body: bytes
    cursor: int
    #: How many events are in it.
    count: int = 0


def make_chunk(entries: Iterable[Entry], end: int, max_bytes: int) -> Chunk:
    """Return the first of `entries` as one chunk: at least one entry, then more up to `max_bytes`.

    `entries` are all that there is up to the id `end`.
    """
    parts: list[bytes] = []
    size_bytes = cursor = 0
    for entry in entries:
        size_bytes += len(entry.body)
        if parts and size_bytes > max_bytes:
            return Chunk(b"".join(parts), cursor, len(parts))
        parts.append(entry.body)
        cursor = entry.id
    return Chunk(b"".join(parts), end, len(parts))


class Ring:
    """All events whose id is above `start` and at most `head`. The sum of their bytes is bounded by `max_bytes`."""

    def __init__(self, head: int, max_bytes: int) -> None:
        self.start = self.head = head
        self._entries: list[Entry] = []
        self._max_bytes = max_bytes
        self._bytes = 0
        self._shared_chunks: dict[tuple[int, int], Chunk] = {}

    def append(self, entries: list[Entry]) -> None:
        """Add the events that follow `head`, and drop the oldest ones above the bound."""
        self._entries += entries
        self._bytes += sum(len(entry.body) for entry in entries)
        self.head = entries[-1].id
        self._shared_chunks.clear()
        dropped = 0
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._entries[dropped].body)
            self.start = self._entries[dropped].id
            dropped += 1
        del self._entries[:dropped]

    def skip_to(self, cursor: int) -> None:
        """Continue after `cursor`, because the events before it were pruned. Older readers read the database."""
        self._entries.clear()
        self._shared_chunks.clear()
        self._bytes = 0
        self.start = self.head = cursor

    def take(self, cursor: int, event_filter: EventFilter, max_bytes: int) -> Chunk:
        """Return what follows `cursor`, which is not below `start`. Readers at the same cursor share the same bytes."""
        if cursor >= self.head:
            return Chunk(b"", cursor)
        if event_filter != EVERYTHING:
            return self._make_chunk(cursor, event_filter, max_bytes)
        shared = self._shared_chunks.get((cursor, max_bytes))
        if shared is None:
            if len(self._shared_chunks) >= MAX_SHARED_CHUNKS:
                self._shared_chunks.clear()
            shared = self._shared_chunks[cursor, max_bytes] = self._make_chunk(cursor, event_filter, max_bytes)
        return shared

    def _make_chunk(self, cursor: int, event_filter: EventFilter, max_bytes: int) -> Chunk:
        first = bisect_right(self._entries, cursor, key=lambda entry: entry.id)
        following = (self._entries[index] for index in range(first, len(self._entries)))
        return make_chunk((entry for entry in following if event_filter.matches(entry)), self.head, max_bytes)
