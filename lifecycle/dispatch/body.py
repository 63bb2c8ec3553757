"""The body of one piece of work, as its caller sends it, and the caller's hanging up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

#: A body without a length is sent to the agent with its length if it ends so soon and is so small, because many agents
#: cannot read chunks.
GATHER_SECONDS = 0.1
GATHER_BYTES = 64 * 1024

Receive = Callable[[], Awaitable[dict[str, Any]]]


class Body:
    """Reads ASGI messages one ahead of the agent. Not more, so that a caller goes no faster than the agent reads."""

    def __init__(self, receive: Receive, *, is_empty: bool = False, waits_for_continue: bool = False) -> None:
        """Make a body.

        Args:
            receive: as ASGI defines it. It must return `http.disconnect` when the caller hangs up.
            is_empty: whether the headers say that there is no body.
            waits_for_continue: whether the caller sends the body only after `100 Continue`. The server sends that when
                `receive` is called, so it is not called before the agent is ready.
        """
        self.is_empty = is_empty
        self._receive = receive
        self._waits_for_continue = waits_for_continue
        self._pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1)
        self._gathered: list[bytes] = []
        self._listener: asyncio.Task[None] | None = None
        self._work: asyncio.Task[Any] | None = None
        #: Whether the caller has hung up.
        self.caller_is_gone = False
        #: Whether the agent was given all of it.
        self.is_complete = is_empty
        #: Called when the agent has been given all of it.
        self.on_complete: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Return a body whose content is known, of a caller that does not hang up."""
        messages = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return messages.pop() if messages else await asyncio.get_running_loop().create_future()

        return cls(receive, is_empty=not content)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Cancel what is inside the block, and leave the block, when the caller hangs up."""
        self._work = asyncio.current_task()
        assert self._work
        if not self._waits_for_continue:
            self._begin()
        try:
            yield
        except asyncio.CancelledError:
            if not self.caller_is_gone or self._work.uncancel():
                raise
        finally:
            if self._listener:
                self._listener.cancel()
            # Else this, the task, and the traceback of its end would keep each other until garbage is collected.
            self._listener = self._work = None

    async def gather(self) -> bytes | None:
        """Return the body if it is small and ends soon. Else return None: it is still to be read from `parts`."""
        self._begin()
        try:
            async with asyncio.timeout(GATHER_SECONDS):
                while not self.is_complete and sum(map(len, self._gathered)) < GATHER_BYTES:
                    self._gathered.append(await self._next())
        except TimeoutError:
            return None
        return b"".join(self._gathered) if self.is_complete else None

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        self._begin()
        for part in self._gathered:
            yield part
        while not self.is_complete:
            yield await self._next()
        self.on_complete()

    async def _next(self) -> bytes:
        message = await self._pieces.get()
        self.is_complete = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part

    def _begin(self) -> None:
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while (message := await self._receive())["type"] != "http.disconnect":
            await self._pieces.put(message)
        self.caller_is_gone = True
        if self._work:
            self._work.cancel()
