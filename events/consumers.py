"""GET /events: in front of Django's own handler, for a Django view costs a thread for every connected reader."""

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

from access.permissions import VIEW_EVENTS
from access.problems import ProblemResponse, refusal
from events.cursors import requested_cursor
from events.log import storable
from events.readers import Limits, Reader
from events.ring import About
from events.tail import Tail, follow

logger = logging.getLogger(__name__)

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
#: For who is refused because there are too many.
RETRY_AFTER_SECONDS = 10
#: A new tail finds its place in some milliseconds, unless the log cannot be read.
TAIL_SECONDS = 10


class Refused(Exception):
    """No stream begins; `response` says why."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__(response.status_code)
        self.response = response


class Places:
    """The streams of this process, in all and of each signed-in person."""

    def __init__(self) -> None:
        self.taken = 0
        self.taken_by: Counter[Any] = Counter()

    @contextmanager
    def hold(self, person: Any) -> Iterator[None]:
        """A place for `person` (a primary key; None is a program). Raises Refused where there is none left."""
        if self.taken >= settings.DORMOUSE_MAX_STREAMS:
            raise Refused(try_later(503, "As many streams as this server takes are open."))
        if person is not None and self.taken_by[person] >= settings.DORMOUSE_MAX_STREAMS_PER_USER:
            raise Refused(try_later(429, f"You have {self.taken_by[person]} streams open, and more are not allowed."))
        self.taken += 1
        self.taken_by[person] += 1
        try:
            yield
        finally:
            self.taken -= 1
            self.taken_by -= Counter([person])  # and forgets who has none left


class EventStream(AsyncHttpConsumer):
    """The log as server-sent events. `scope` carries `request` and `has_perm`, from config.access."""

    limits = Limits()
    places = Places()

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__()
        self.limits = limits or self.limits
        self.reader: Reader | None = None
        self.answering: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.context: dict[str, Any] = scope
        try:
            await super().__call__(scope, receive, send)
        except asyncio.CancelledError:  # the server is going down
            await self.stop()
            if self.reader and self.reader.opened:
                await self.send_body(self.reader.goodbye("shutdown"))
            raise
        finally:
            await self.stop()

    async def dispatch(self, message: Any) -> None:
        """As Channels does it, without closing database connections in a thread: a stream opens none of its own."""
        await {"http.request": self.http_request, "http.disconnect": self.http_disconnect}[message["type"]](message)

    async def http_request(self, message: Any) -> None:
        """Answers in a task of its own, because a consumer sees the hang-up only between two messages."""
        if self.answering is None:
            self.answering = asyncio.create_task(self.answer())

    async def http_disconnect(self, message: Any) -> None:
        await self.stop()
        self.reader = None
        raise StopConsumer

    async def stop(self) -> None:
        if self.answering and not self.answering.done():
            self.answering.cancel()
            await asyncio.wait([self.answering])

    async def answer(self) -> None:
        """The whole response. An error ends it; the reader comes back with its cursor."""
        try:
            await self.stream()
        except Refused as refused:
            await self.refuse(refused.response)
        except DatabaseError as error:
            logger.error("a stream of events broke off: %s", error)
            await self.break_off(try_later(503, "The database does not answer."))
        except Exception:
            logger.exception("a stream of events broke off")
            await self.break_off(ProblemResponse(500, "The stream could not begin."))

    async def break_off(self, instead: HttpResponse) -> None:
        """Ends a stream that has begun; `instead` is the answer where none has."""
        if self.reader:
            await self.send_body(b"")
        else:
            await self.refuse(instead)

    async def stream(self) -> None:
        person, cursor, about = await self.admitted()
        with self.places.hold(person):
            async with follow() as tail:
                await join(tail)
                self.reader = Reader(tail, about, self.send_more, self.may_read, self.limits)
                await self.send_headers(headers=HEADERS)
                reason = await self.reader.run(cursor)
        await self.send_body(self.reader.goodbye(reason))  # in one with the end, which waits for no slow reader

    async def admitted(self) -> tuple[Any, int | str | None, About]:
        """Who reads (None: a program), from where on, and what. Raises Refused."""
        request: HttpRequest = self.context.pop("request")
        if request.method != "GET":
            raise Refused(method_not_allowed())
        user, permitted = await self.context["has_perm"](VIEW_EVENTS)
        if response := refusal(user, permitted, VIEW_EVENTS):
            raise Refused(response)
        return user.pk, *asked(request)

    async def send_more(self, body: bytes) -> None:
        await self.send_body(body, more_body=True)

    async def may_read(self) -> bool:
        _, permitted = await self.context["has_perm"](VIEW_EVENTS)
        return bool(permitted)

    async def refuse(self, response: HttpResponse) -> None:
        response["X-Content-Type-Options"] = "nosniff"
        response["Cache-Control"] = "no-cache"
        headers = [(name.lower().encode(), value.encode()) for name, value in response.items()]
        await self.send_response(response.status_code, response.content, headers=headers)


async def join(tail: Tail) -> None:
    """Raises Refused while the log cannot be read."""
    try:
        await tail.join(TAIL_SECONDS)
    except TimeoutError:
        raise Refused(try_later(503, "The event log cannot be read.")) from None


def asked(request: HttpRequest) -> tuple[int | str | None, About]:
    """The cursor and the filters that `request` names; an empty filter is none. Raises Refused."""
    try:
        cursor = requested_cursor(request)
        instances, types = request.GET.getlist("instance"), request.GET.getlist("type")
    except SuspiciousOperation:
        raise Refused(ProblemResponse(400, "Too many parameters.")) from None
    return cursor, About(wanted(instances), wanted(types))


def wanted(values: list[str]) -> frozenset[str]:
    return frozenset(storable(value) for value in values if value)


def try_later(status: int, detail: str) -> HttpResponse:
    response = ProblemResponse(status, detail)
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def method_not_allowed() -> HttpResponse:
    response = ProblemResponse(405, "The stream of events can only be read.")
    response["Allow"] = "GET"
    return response
