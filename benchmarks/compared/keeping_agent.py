"""An agent that keeps its connections: `python keeping_agent.py PORT`. It runs in a container, so it imports nothing.

It answers each request with a few bytes when it has read the request's body.
"""

import asyncio
import sys
from typing import Any

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\ndone"


class Agent(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if end and len(rest) >= _length(head):
            self._received = rest[_length(head) :]
            self._transport.write(ANSWER)


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Agent, "0.0.0.0", int(sys.argv[1]))  # in a container
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
