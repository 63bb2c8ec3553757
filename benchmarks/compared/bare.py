"""The limit: an ASGI application that writes prepared bytes to its readers, and does nothing else."""

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs

from benchmarks.load.marks import data

written: list[bytes] = []
news = asyncio.Event()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["path"] == "/publish":
        query = parse_qs(scope["query_string"].decode())
        publish(int(query["first"][0]), int(query["count"][0]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    await listen(send)


def publish(first: int, count: int) -> None:
    global news
    for number in range(first, first + count):
        text = json.dumps(data(number))
        written.append(f"event: bench.mark\nid: {number}\ndata: {text}\n\n".encode())
    news.set()
    news = asyncio.Event()


async def listen(send: Any) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"event: stream-open\ndata: {}\n\n", "more_body": True})
    position = len(written)
    while True:
        if position == len(written):
            await news.wait()
        body = b"".join(written[position:])
        position = len(written)
        await send({"type": "http.response.body", "body": body, "more_body": True})
