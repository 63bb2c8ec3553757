"""One connection's way through the log: what it is sent, and when it ends."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from events.eventstream import encode_own
from events.stream.ring import EventFilter
from events.stream.tail import CursorLost, Tail

#: How much is written at once. It is small, so that the event loop gets to a thousand other readers.
CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Limits:
    """The limits and the times of one connection."""

    #: What the client is told to wait before it reconnects.
    retry_ms: int = 2000
    #: After so much silence an event says that the connection is alive.
    keep_alive_seconds: float = 15
    #: How often the permission is checked again. What is refused from now on ends within 60 s.
    access_seconds: float = 55
    #: Shortened by up to a fifth at random, so that readers who came together do not come back together.
    lifetime_seconds: float = 600
    #: Below 4 MiB, because the end event is sent in addition.
    max_bytes: int = 4_000_000


@dataclass
class Sent:
    """Counts of what the streams of this process have sent."""

    events: int = 0


sent = Sent()


class Reader:
    """Sends what follows a cursor through `send`, until a limit is reached or `may_read` returns False.

    `send` may wait for a slow reader. It either sends everything, or is cancelled and has sent nothing.
    """

    def __init__(
        self,
        tail: Tail,
        event_filter: EventFilter,
        send: Callable[[bytes], Awaitable[None]],
        may_read: Callable[[], Awaitable[bool]],
        limits: Limits,
    ) -> None:
        self.tail, self.event_filter, self.limits = tail, event_filter, limits
        self.cursor = 0
        #: Whether `cursor` is the reader's position yet.
        self.is_open = False
        self._send, self._may_read = send, may_read
        self._sent_bytes = 0
        self._has_sent_events = False
        self._now = asyncio.get_running_loop().time
        self._ends_at = self._now() + limits.lifetime_seconds * random.uniform(0.8, 1)  # noqa: S311  # no secret
        self._check_access_at = self._now() + limits.access_seconds
        self._keep_alive_at = self._now()

    async def run(self, requested: int | str | None) -> str:
        """Send events from the cursor `requested` (see `Tail.locate`) on. Return why it ends: "limit" or "access"."""
        await self._open(requested)
        try:
            async with asyncio.timeout_at(self._ends_at):  # this also ends a reader that does not read
                while True:
                    if reason := await self._reason_to_end() or await self._step():
                        return reason
        except TimeoutError:
            return "limit"

    def end_event(self, reason: str) -> bytes:
        """Return the last event of a stream. `reason` is "limit", "access" or "shutdown"."""
        return encode_own("stream-end", self.cursor, cursor=self.cursor, reason=reason)

    async def _open(self, requested: int | str | None) -> None:
        lost = None
        try:
            self.cursor = await self.tail.locate(requested)
        except CursorLost as error:
            lost, self.cursor = error, error.cursor
        retry = f"retry: {self.limits.retry_ms}\n".encode()
        self.is_open = True
        await self._write(retry + encode_own("stream-open", self.cursor), self.cursor)
        if lost:
            await self._reset(lost)

    async def _reset(self, lost: CursorLost) -> None:
        """Tell the reader that it cannot continue at its cursor, and at which cursor it continues."""
        data = {"requested": lost.requested, "oldest": lost.oldest, "latest": lost.latest}
        await self._write(encode_own("stream-reset", lost.cursor, **data), lost.cursor)

    async def _reason_to_end(self) -> str | None:
        if self._sent_bytes >= self.limits.max_bytes:
            return "limit"
        if self._now() >= self._check_access_at:
            self._check_access_at = self._now() + self.limits.access_seconds
            return None if await self._may_read() else "access"
        return None

    async def _step(self) -> str | None:
        """Send the events that there are, or wait for some. Return "limit" if they would be too many bytes."""
        room = self.limits.max_bytes - self._sent_bytes
        try:
            chunk = await self.tail.after(self.cursor, self.event_filter, min(CHUNK_BYTES, room))
        except CursorLost as lost:
            await self._reset(lost)
            return None
        if chunk.body:
            if self._has_sent_events and len(chunk.body) > room:
                return "limit"
            self._has_sent_events = True
            await self._write(chunk.body, chunk.cursor)
            sent.events += chunk.count
        self.cursor = max(self.cursor, chunk.cursor)
        await self._wait()
        return None

    async def _wait(self) -> None:
        """Wait until there are more events or a deadline has come. After a long silence, send a keep-alive."""
        deadline = min(self._keep_alive_at, self._check_access_at)
        await self.tail.wait(self.cursor, deadline - self._now())
        if self._now() >= self._keep_alive_at:
            await self._write(encode_own("keep-alive", self.cursor), self.cursor)

    async def _write(self, body: bytes, cursor: int) -> None:
        """Send `body`. Afterwards the reader is at `cursor`."""
        await self._send(body)
        self.cursor = cursor
        self._sent_bytes += len(body)
        self._keep_alive_at = self._now() + self.limits.keep_alive_seconds
