"""One connection's way through the log: what it is sent, and when it ends."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from events.eventstream import encode_own
from events.ring import About
from events.tail import CursorLost, Tail

#: What is written at once, so that the loop gets its turn between a thousand readers.
CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Limits:
    """What one connection costs at most, and its times."""

    retry_ms: int = 2000
    keep_alive_seconds: float = 15
    access_seconds: float = 60
    #: Shortened by up to a fifth at random, so that readers who came together do not come back together.
    lifetime_seconds: float = 600
    #: Below 4 MiB, for the goodbye comes on top of it.
    max_bytes: int = 4_000_000


class Reader:
    """Sends what follows a cursor through `send`, until a limit is reached or `may_read` says no.

    `send` may wait for a reader that is slow; it either sends, or is cancelled and has sent nothing.
    """

    def __init__(
        self,
        tail: Tail,
        about: About,
        send: Callable[[bytes], Awaitable[None]],
        may_read: Callable[[], Awaitable[bool]],
        limits: Limits,
    ) -> None:
        self.tail, self.about, self.limits = tail, about, limits
        self.cursor = 0
        #: Whether the cursor means anything yet.
        self.opened = False
        self._send, self._may_read = send, may_read
        self._sent_bytes = 0
        self._sent_events = False
        self._now = asyncio.get_running_loop().time
        self._ends_at = self._now() + limits.lifetime_seconds * random.uniform(0.8, 1)  # noqa: S311
        self._ask_at = self._now() + limits.access_seconds
        self._quiet_until = self._now()

    async def run(self, requested: int | str | None) -> str:
        """From `requested` (see `Tail.locate`) to the end of the connection. Returns why it ends: limit or access."""
        await self._open(requested)
        try:
            async with asyncio.timeout_at(self._ends_at):  # also for one that does not read
                while True:
                    if reason := await self._reason_to_end() or await self._step():
                        return reason
        except TimeoutError:
            return "limit"

    def goodbye(self, reason: str) -> bytes:
        """The last of the stream; `reason` is one of limit, access, shutdown."""
        return encode_own("stream-end", self.cursor, cursor=self.cursor, reason=reason)

    async def _open(self, requested: int | str | None) -> None:
        lost = None
        try:
            self.cursor = await self.tail.locate(requested)
        except CursorLost as error:
            lost, self.cursor = error, error.cursor
        retry = f"retry: {self.limits.retry_ms}\n".encode()
        self.opened = True
        await self._write(retry + encode_own("stream-open", self.cursor), self.cursor)
        if lost:
            await self._reset(lost)

    async def _reset(self, lost: CursorLost) -> None:
        place = {"requested": lost.requested, "oldest": lost.oldest, "latest": lost.latest}
        await self._write(encode_own("stream-reset", lost.cursor, **place), lost.cursor)

    async def _reason_to_end(self) -> str | None:
        if self._sent_bytes >= self.limits.max_bytes:
            return "limit"
        if self._now() >= self._ask_at:
            self._ask_at = self._now() + self.limits.access_seconds
            return None if await self._may_read() else "access"
        return None

    async def _step(self) -> str | None:
        """Sends what there is, else waits for it. Returns "limit" where that would be too much."""
        room = self.limits.max_bytes - self._sent_bytes
        try:
            chunk = await self.tail.after(self.cursor, self.about, min(CHUNK_BYTES, room))
        except CursorLost as lost:
            await self._reset(lost)
            return None
        if chunk.body:
            if self._sent_events and len(chunk.body) > room:
                return "limit"
            self._sent_events = True
            await self._write(chunk.body, chunk.cursor)
        self.cursor = max(self.cursor, chunk.cursor)
        await self._wait()
        return None

    async def _wait(self) -> None:
        """Until there is more, or the time has come for something else; says so after a long silence."""
        at = min(self._quiet_until, self._ask_at)
        await self.tail.wait(self.cursor, at - self._now())
        if self._now() >= self._quiet_until:
            await self._write(encode_own("keep-alive", self.cursor), self.cursor)

    async def _write(self, body: bytes, cursor: int) -> None:
        """Sends `body`, after which the reader is at `cursor`."""
        await self._send(body)
        self.cursor = cursor
        self._sent_bytes += len(body)
        self._quiet_until = self._now() + self.limits.keep_alive_seconds
        await asyncio.sleep(0)  # most sending does not wait, and the others want their turn
