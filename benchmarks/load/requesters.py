"""Requests on kept connections, in a process of its own. It reads orders as JSON, one in a line."""

import asyncio
import json
import sys
import time


async def _request_again_and_again(port: int, request: bytes, end: float) -> list[float]:
    """Return how long each request took, in ms."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took = []
    while (began := time.perf_counter()) < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        if b"chunked" in head.lower():
            await reader.readuntil(b"0\r\n\r\n")
        else:
            await reader.readexactly(_length(head))
        took.append((time.perf_counter() - began) * 1000)
    writer.close()
    return took


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0])


async def _measure(port: int, connections: int, seconds: float, request: bytes) -> list[float]:
    end = time.perf_counter() + seconds
    several = [_request_again_and_again(port, request, end) for _ in range(connections)]
    return [one for found in await asyncio.gather(*several) for one in found]


def main() -> None:
    """Answer each line of the input with the times of its requests."""
    for line in sys.stdin:
        port, connections, seconds, request = json.loads(line)
        print(json.dumps(asyncio.run(_measure(port, connections, seconds, request.encode()))), flush=True)


if __name__ == "__main__":
    main()
