"""The newest events, encoded once, for every reader of this process."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as the stream carries it, with what a reader may filter by."""

    id: int
    type: str
    instance: str
    body: bytes


@dataclass(frozen=True, slots=True)
class About:
    """What a reader wants to see. Nothing named: everything."""

    instances: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()

    def __contains__(self, entry: Entry) -> bool:
        return (not self.instances or entry.instance in self.instances) and (not self.types or entry.type in self.types)


EVERYTHING = About()

#: Chunks that readers share are remembered for those who come right after, not for ever.
MAX_SHARED = 64


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes to send (perhaps none), and the cursor up to which they are all that there was to send."""

    body: bytes
    cursor: int


def join(entries: Iterable[Entry], end: int, max_bytes: int) -> Chunk:
    """The first of `entries` (all that there is up to `end`) as one chunk: at least one, then up to `max_bytes`."""
    parts: list[bytes] = []
    size = cursor = 0
    for entry in entries:
        size += len(entry.body)
        if parts and size > max_bytes:
            return Chunk(b"".join(parts), cursor)
        parts.append(entry.body)
        cursor = entry.id
    return Chunk(b"".join(parts), end)


class Ring:
    """Every event whose id is above `start` and at most `head`, bounded by the bytes of them."""

    def __init__(self, head: int, max_bytes: int) -> None:
        self.start = self.head = head
        self._entries: list[Entry] = []
        self._max_bytes = max_bytes
        self._bytes = 0
        self._joined: dict[tuple[int, int], Chunk] = {}

    def append(self, entries: list[Entry]) -> None:
        """Takes the events that follow `head`, and lets go of the oldest beyond the bound."""
        self._entries += entries
        self._bytes += sum(len(entry.body) for entry in entries)
        self.head = entries[-1].id
        self._joined.clear()
        gone = 0
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._entries[gone].body)
            self.start = self._entries[gone].id
            gone += 1
        del self._entries[:gone]

    def skip_to(self, cursor: int) -> None:
        """Goes on after `cursor`, where what is between is not to be had: older readers are no longer served here."""
        self._entries.clear()
        self._joined.clear()
        self._bytes = 0
        self.start = self.head = cursor

    def take(self, cursor: int, about: About, max_bytes: int) -> Chunk:
        """What follows `cursor`, which is not before `start`. Readers at the same place share the same bytes."""
        if cursor >= self.head:
            return Chunk(b"", cursor)
        if about != EVERYTHING:
            return self._join(cursor, about, max_bytes)
        shared = self._joined.get((cursor, max_bytes))
        if shared is None:
            if len(self._joined) >= MAX_SHARED:
                self._joined.clear()
            shared = self._joined[cursor, max_bytes] = self._join(cursor, about, max_bytes)
        return shared

    def _join(self, cursor: int, about: About, max_bytes: int) -> Chunk:
        first = bisect_right(self._entries, cursor, key=lambda entry: entry.id)
        following = (self._entries[index] for index in range(first, len(self._entries)))
        return join((entry for entry in following if entry in about), self.head, max_bytes)
