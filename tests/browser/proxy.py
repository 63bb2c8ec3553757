"""A line with faults, between a browser and a server: it can be cut, stall, answer 503 or redirect.

Tests count requests here. Playwright loses the event of a request that begins while a route ends.
"""

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

ANSWERS = {
    500: b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    503: b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    302: b"HTTP/1.1 302 Found\r\nLocation: /accounts/login/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
}
PLANNED_END = b"""HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n\
event: stream-open
id: 0
data: {"cursor": 0}

event: stream-end
id: 0
data: {"reason": "limit"}

"""


class Proxy:
    """`url` leads to 127.0.0.1:`port`. `asked` has the first line of every request, answered or not."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.answer: bytes | None = None
        self.only = b""
        self.is_once = False
        self.muted: bytes | None = None
        self.asked: list[str] = []
        self.lines: set[asyncio.StreamWriter] = set()
        self.loop = asyncio.new_event_loop()
        self.flows = asyncio.Event()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        self.flows.set()
        self.server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._do(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def cut(self) -> None:
        """Every line that is open breaks."""
        self._do(self._cut())

    def stall(self) -> None:
        """Let nothing pass any more, without closing a connection."""
        self.loop.call_soon_threadsafe(self.flows.clear)

    def refuse(self, status: int, only: str = "", retry_seconds: int = 8) -> None:
        """Answer `status` in the server's place, to requests whose path begins with `only`; a 503 with Retry-After."""
        answer = ANSWERS[status]
        self.answer = answer % retry_seconds if status == 503 else answer
        self.only, self.is_once = f"GET {only}".encode(), False

    def end_one_stream(self) -> None:
        """Answer the next request for a stream with one that ends at once, as a server ends it that had planned to."""
        self.only, self.answer, self.is_once = b"GET /events", PLANNED_END, True

    def mute(self, only: str) -> None:
        """Keep back the answers to requests whose path begins with `only`, as a proxy that buffers them does."""
        self.muted = f"GET {only}".encode()

    @property
    def streams(self) -> int:
        """Return how many streams were asked for."""
        return sum("/events?" in line for line in self.asked)

    def heal(self) -> None:
        self.answer = self.muted = None
        self.loop.call_soon_threadsafe(self.flows.set)

    def _do(self, what):
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(30)

    async def _cut(self) -> None:
        for line in list(self.lines):
            line.transport.abort()

    async def _end(self) -> None:
        self.server.close()
        await self._cut()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:  # also those of lines accepted meanwhile
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lines.add(writer)
        with suppress(OSError, asyncio.CancelledError):
            upstream = await asyncio.open_connection("127.0.0.1", self.target)
            back = asyncio.ensure_future(self._pass(upstream[0], writer))
            try:
                await self._requests(reader, writer, upstream[1])
            finally:
                back.cancel()
                upstream[1].transport.abort()
        self.lines.discard(writer)
        writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: asyncio.StreamWriter):
        while data := await reader.read(65536):
            line = data.split(b"\r\n", 1)[0]
            if line.startswith((b"GET ", b"POST ")):
                self.asked.append(line.decode().rsplit(" ", 1)[0])
                if self.muted and line.startswith(self.muted):
                    await reader.read()  # until the browser gives up
                if self.answer and line.startswith(self.only):
                    writer.write(self.answer)
                    if self.is_once:
                        self.answer, self.is_once = None, False
                    await writer.drain()
                    return
            await self.flows.wait()
            up.write(data)
            await up.drain()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self.flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
