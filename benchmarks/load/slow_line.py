"""A line as slow as a phone's, between a browser and a server: a TCP proxy on loopback that delays packets.

The figures are those of Lighthouse's "slow 4G". Lighthouse delays whole requests and no streams, which would make a
page that reads a stream look faster than it is. So packets are delayed here, and a new connection by a round trip.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

T = TypeVar("T")

ROUND_TRIP_SECONDS = 0.15
DOWN_BYTES_PER_SECOND = 1.6 * 1024 * 1024 / 8
UP_BYTES_PER_SECOND = 750 * 1024 / 8
#: The size of one packet. Connections share the line packet by packet.
PACKET_BYTES = 1460

Now = Callable[[], float]


class Direction:
    """One direction of the line, which all connections share."""

    def __init__(self, bytes_per_second: float, now: Now) -> None:
        self._bytes_per_second = bytes_per_second
        self._now = now
        self._free_at = 0.0

    def arrival(self, size: int) -> float:
        """Return when a packet of `size` bytes that is sent now arrives."""
        self._free_at = max(self._free_at, self._now()) + size / self._bytes_per_second
        return self._free_at + ROUND_TRIP_SECONDS / 2


class SlowLine:
    """A slow proxy: `url` leads to 127.0.0.1:`port`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._up = Direction(UP_BYTES_PER_SECOND, self._loop.time)
        self._down = Direction(DOWN_BYTES_PER_SECOND, self._loop.time)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *error: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the proxy's thread, and return its result."""
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect the new connection to the server, and carry packets both ways."""
        open_at = self._loop.time() + ROUND_TRIP_SECONDS  # a handshake on loopback takes no time
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, to_server, self._up, open_at))
                group.create_task(self._carry(from_server, writer, self._down))
        except* OSError:  # one end has hung up
            pass

    async def _carry(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, way: Direction, open_at: float = 0
    ) -> None:
        """Carry packets until one end hangs up. They wait in a queue, so several are under way at once."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.create_task(self._deliver(under_way, target))
        await asyncio.sleep(max(0, open_at - self._loop.time()))
        while packet := await source.read(PACKET_BYTES):
            under_way.put_nowait((way.arrival(len(packet)), packet))
        under_way.put_nowait((self._loop.time() + ROUND_TRIP_SECONDS / 2, b""))
        await delivering

    async def _deliver(self, under_way: "asyncio.Queue[tuple[float, bytes]]", target: asyncio.StreamWriter) -> None:
        """Write each packet at its time of arrival. An empty packet is the end."""
        try:
            while (found := await under_way.get())[1]:
                await asyncio.sleep(max(0, found[0] - self._loop.time()))
                target.write(found[1])
                await target.drain()
        finally:
            target.close()
