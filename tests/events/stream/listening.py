"""Readers of /events for the tests: of a real server, and of the consumer in the test's own event loop."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import islice
from typing import Any, Self
from unittest.mock import sentinel

import httpx
from channels.db import database_sync_to_async
from django.core.handlers.asgi import ASGIRequest
from httpx_sse import EventSource, ServerSentEvent, SSEError, connect_sse

from access.identity.tokens import TokenUser
from events.log import record
from events.stream.consumer import EventStream
from tests.servers import DEADLINE_SECONDS, Server

#: The type of the event that ends a Follower.
LAST = "the.end"
arecord = database_sync_to_async(record)


@contextmanager
def connected(server: Server, query: str = "", **headers: str) -> Iterator[EventSource]:
    with (
        httpx.Client(timeout=DEADLINE_SECONDS, headers=server.bearer | headers) as client,
        connect_sse(client, "GET", f"{server.url}/events{query}") as source,
    ):
        yield source


@contextmanager
def listening(server: Server, query: str = "", **headers: str) -> Iterator[Iterator[ServerSentEvent]]:
    """The messages of one connection, as they come."""
    with connected(server, query, **headers) as source:
        yield source.iter_sse()


def take(messages: Iterator[ServerSentEvent], count: int) -> list[ServerSentEvent]:
    return list(islice(messages, count))


def ids(messages: list[ServerSentEvent]) -> list[int]:
    return [int(message.id) for message in messages]


class Follower(threading.Thread):
    """Reads one server for as long as it takes, and comes back with its cursor whenever it is cut off."""

    def __init__(self, server: Server, cursor: int) -> None:
        super().__init__(daemon=True)
        self.server, self.cursor = server, cursor
        self.seen: list[int] = []
        #: Everything that was no event.
        self.told: list[str] = []
        self.connections = 0
        self.start()

    def run(self) -> None:
        while not self.seen or self.last.event != LAST:
            with suppress(httpx.HTTPError, SSEError):  # SSEError: refused by a server that cannot read its log yet
                self._read()
            time.sleep(0.01)

    def result(self) -> list[int]:
        """The ids up to the event LAST."""
        self.join(4 * DEADLINE_SECONDS)
        assert not self.is_alive(), f"the reader has {len(self.seen)} events, up to {self.cursor}, and waits for more"
        return self.seen

    def _read(self) -> None:
        with listening(self.server, **{"Last-Event-ID": str(self.cursor)}) as messages:
            self.connections += 1
            for message in messages:
                self.cursor = int(message.id)
                if message.event in ("stream-open", "stream-reset", "stream-end", "keep-alive"):
                    self.told.append(message.event)
                    continue
                self.seen.append(self.cursor)
                self.last = message
                if message.event == LAST:
                    return


class Listener:
    """One connection to EventStream without a server: `async with Listener("?after=0") as listener`."""

    def __init__(self, query: str = "", user: Any = sentinel.program, method: str = "GET", **initkwargs: Any) -> None:
        self.user = TokenUser() if user is sentinel.program else user
        self.permitted = True
        self.status = 0
        self.body = b""
        self.ended = False
        self._app: Any = EventStream.as_asgi(**initkwargs)
        self._scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": "/events",
            "query_string": query.removeprefix("?").encode(),
            "headers": [],
            "has_perm": self._has_perm,
        }
        self._scope["request"] = ASGIRequest(self._scope, BytesIO())
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outgoing: asyncio.Queue[ServerSentEvent] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._incoming.put_nowait({"type": "http.request", "body": b""})
        self.task = asyncio.create_task(self._app(self._scope, self._incoming.get, self._send))
        return self

    async def __aexit__(self, *error: object) -> None:
        self.hang_up()
        await asyncio.wait([self.task])

    def hang_up(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def next(self) -> ServerSentEvent:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._outgoing.get()

    async def take(self, count: int) -> list[ServerSentEvent]:
        return [await self.next() for _ in range(count)]

    async def until(self, type: str) -> list[ServerSentEvent]:
        """Everything up to a message of `type`, which is the last."""
        messages = [await self.next()]
        while messages[-1].event != type:
            messages.append(await self.next())
        return messages

    async def closed(self) -> dict[str, Any]:
        """Wait for the end of the response. Return its body as JSON if it was no stream."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.task
        return json.loads(self.body) if self.status != 200 else {}

    async def _has_perm(self, permission: str) -> tuple[Any, bool]:
        return self.user, self.permitted

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        self.body += message["body"]
        if self.status == 200:
            for found in EventSource(httpx.Response(200, headers=self.headers, content=message["body"])).iter_sse():
                self._outgoing.put_nowait(found)
        if not message.get("more_body"):
            self.ended = True
            self.hang_up()  # as daphne does after the last of the body
