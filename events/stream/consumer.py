"""The consumer that answers `GET /events`: it decides whether a stream begins, and ends it.

It runs in front of Django's own handler, because a Django view costs a thread for every connected reader.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from channels.exceptions import StopConsumer
from channels.generic.http import AsyncHttpConsumer
from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse

from access.identity.tokens import limits_of
from access.permissions import VIEW_EVENTS
from access.problems import ProblemResponse, refusal
from events.log import replace_unstorable
from events.stream.cursors import requested_cursor
from events.stream.reader import Limits, Reader
from events.stream.ring import EventFilter
from events.stream.tail import Tail, shared_tail

logger = logging.getLogger(__name__)

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
#: What a reader is told to wait if too many streams are open.
RETRY_AFTER_SECONDS = 10
#: A new tail finds its position in some milliseconds, unless the log cannot be read.
TAIL_SECONDS = 10


class Refused(Exception):
    """No stream begins, and `response` says why."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__(response.status_code)
        self.response = response


class StreamSlots:
    """Counts the open streams of this process, in all and for each signed-in user."""

    def __init__(self) -> None:
        self.taken = 0
        self.taken_by: Counter[Any] = Counter()

    @contextmanager
    def hold(self, user_id: Any) -> Iterator[None]:
        """Hold a slot inside the block. `user_id` is a primary key, or None for a program.

        Raises Refused if all slots are taken.
        """
        if self.taken >= settings.DORMOUSE_MAX_STREAMS:
            raise Refused(_try_later(503, "As many streams as this server allows are open."))
        if user_id is not None and self.taken_by[user_id] >= settings.DORMOUSE_MAX_STREAMS_PER_USER:
            detail = f"You have {self.taken_by[user_id]} streams open, and more are not allowed."
            raise Refused(_try_later(429, detail))
        self.taken += 1
        self.taken_by[user_id] += 1
        try:
            yield
        finally:
            self.taken -= 1
            self.taken_by -= Counter([user_id])  # a user without a stream leaves the counter


class EventStream(AsyncHttpConsumer):
    """The log as server-sent events. The scope carries `request` and `has_perm`, which AsgiAccess puts there."""

    limits = Limits()
    slots = StreamSlots()

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__()
        self.limits = limits or self.limits
        self.reader: Reader | None = None
        self.answering: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection. If the server shuts down, say so to the reader as the last event."""
        self.context: dict[str, Any] = scope
        try:
            await super().__call__(scope, receive, send)
        except asyncio.CancelledError:
            await self.stop()
            if self.reader and self.reader.is_open:
                await self.send_body(self.reader.end_event("shutdown"))
            raise
        finally:
            await self.stop()

    async def dispatch(self, message: Any) -> None:
        """Handle a message as Channels does, but close no database connections: a stream opens none of its own."""
        await {"http.request": self.http_request, "http.disconnect": self.http_disconnect}[message["type"]](message)

    async def http_request(self, message: Any) -> None:
        """Answer in a task of its own, because a consumer sees a disconnect only between two messages."""
        if self.answering is None:
            self.answering = asyncio.create_task(self.answer())

    async def http_disconnect(self, message: Any) -> None:
        """Stop the stream, because the reader has hung up."""
        await self.stop()
        self.reader = None
        raise StopConsumer

    async def stop(self) -> None:
        """Cancel the answer if it is under way, and wait until it has ended."""
        if self.answering and not self.answering.done():
            self.answering.cancel()
            await asyncio.wait([self.answering])

    async def answer(self) -> None:
        """Send the whole response. An error ends it, and the reader comes back with its cursor."""
        try:
            await self.stream()
        except Refused as refused:
            await self.refuse(refused.response)
        except DatabaseError as error:
            logger.error("a stream of events broke off, because the database failed: %s", error)
            await self.break_off(_try_later(503, "The database cannot be used at the moment."))
        except Exception:
            logger.exception("a stream of events broke off")
            await self.break_off(ProblemResponse(500, "The stream could not begin."))

    async def break_off(self, response: HttpResponse) -> None:
        """End a stream that has begun; if none has, send `response`."""
        if self.reader:
            await self.send_body(b"")
        else:
            await self.refuse(response)

    async def stream(self) -> None:
        """Send events until the connection's limits are reached or access ends. Raises Refused and DatabaseError."""
        user_id, cursor, event_filter = await self.admit()
        with self.slots.hold(user_id):
            async with shared_tail() as tail:
                await _wait_for_position(tail)
                self.reader = Reader(tail, event_filter, self.send_more, self.may_read, self.limits)
                await self.send_headers(headers=HEADERS)
                reason = await self.reader.run(cursor)
        await self.send_body(self.reader.end_event(reason))  # as the last part, which waits for no slow reader

    async def admit(self) -> tuple[Any, int | str | None, EventFilter]:
        """Return the user's id (None for a program), the requested cursor and the filter. Raises Refused."""
        request: HttpRequest = self.context.pop("request")
        if request.method != "GET":
            raise Refused(_method_not_allowed())
        user, permitted = await self.context["has_perm"](VIEW_EVENTS)
        if response := refusal(user, permitted, VIEW_EVENTS):
            raise Refused(response)
        cursor, event_filter = _read_query(request)
        if response := refusal(user, permitted, VIEW_EVENTS, *event_filter.instances):
            raise Refused(response)
        # Without a filter of its own, a token for certain instances reads their events alone.
        return user.pk, cursor, EventFilter(event_filter.instances or limits_of(user), event_filter.types)

    async def send_more(self, body: bytes) -> None:
        """Send a part of the body, of which more follows."""
        await self.send_body(body, more_body=True)

    async def may_read(self) -> bool:
        """Return whether the reader still has the permission, according to the database."""
        _, permitted = await self.context["has_perm"](VIEW_EVENTS)
        return bool(permitted)

    async def refuse(self, response: HttpResponse) -> None:
        """Send `response` instead of a stream."""
        response["X-Content-Type-Options"] = "nosniff"
        response["Cache-Control"] = "no-cache"
        headers = [(name.lower().encode(), value.encode()) for name, value in response.items()]
        await self.send_response(response.status_code, response.content, headers=headers)


async def _wait_for_position(tail: Tail) -> None:
    """Wait until the tail knows the end of the log. Raises Refused if the log cannot be read."""
    try:
        await tail.wait_for_position(TAIL_SECONDS)
    except TimeoutError:
        raise Refused(_try_later(503, "The event log cannot be read.")) from None


def _read_query(request: HttpRequest) -> tuple[int | str | None, EventFilter]:
    """Return the cursor and the filter that `request` names. An empty filter value counts as none. Raises Refused."""
    try:
        cursor = requested_cursor(request)
        instances, types = request.GET.getlist("instance"), request.GET.getlist("type")
    except SuspiciousOperation:
        raise Refused(ProblemResponse(400, "Too many parameters.")) from None
    return cursor, EventFilter(_filter_values(instances), _filter_values(types))


def _filter_values(values: list[str]) -> frozenset[str]:
    return frozenset(replace_unstorable(value) for value in values if value)


def _try_later(status: int, detail: str) -> HttpResponse:
    response = ProblemResponse(status, detail)
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _method_not_allowed() -> HttpResponse:
    response = ProblemResponse(405, "The stream of events can only be read.")
    response["Allow"] = "GET"
    return response
