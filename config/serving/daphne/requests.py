"""Requests and answers under daphne.

ASGI and daphne lack three things that Dormouse needs:

1. Backpressure. daphne's `send` never waits, so it would keep the whole of a long answer to a slow caller in memory
   (378 MB of a 300 MB answer that the caller did not read). Twisted tells a producer when its socket is full, so each
   answer becomes a producer (`PushProducer`).
2. A way to break off an answer that has begun. daphne would leave its caller waiting for ever, so the connection is
   closed (`CloseBrokenAnswers`).
3. Streamed bodies (`StreamedRequest`). daphne receives a whole body before it calls the application, so a stranger's
   300 MB were in memory before the answer was 401. Now the application is called when the headers have come.

daphne passes `partial(Server.handle_reply, request)` as `send`, and `request` is its `WebRequest`. Under any other
server the answers are sent as that server sends them. `stream_requests` refuses another version of daphne or Twisted.
"""

import asyncio
import functools
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import daphne
import twisted
from daphne import http_protocol
from daphne.http_protocol import WebRequest
from daphne.server import Server
from django.core.exceptions import ImproperlyConfigured
from twisted.internet import reactor
from twisted.web import http

from config.serving.daphne.channel import LimitedChannel
from config.serving.limits import LINGER_BYTES, LINGER_SECONDS
from lifecycle.exceptions import AgentBrokeOff

logger = logging.getLogger(__name__)

AsgiApplication = Callable[..., Awaitable[None]]


class Backpressure:
    """ASGI middleware whose `send` waits while the caller's socket is full, and whose `receive` streams the body."""

    def __init__(self, app: AsgiApplication) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Call the application with a `receive` and a `send` of our own, if the server is daphne."""
        request = web_request(send)
        if request:
            receive, send = request.body.receive, PushProducer(request, send).send
        await self.app(scope, receive, send)


class CloseBrokenAnswers:
    """ASGI middleware that closes the connection if the agent broke off its answer, so that the caller notices."""

    def __init__(self, app: AsgiApplication) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Call the application; if it raises AgentBrokeOff, log that and close the connection."""
        try:
            await self.app(scope, receive, send)
        except AgentBrokeOff as error:
            logger.warning("%s", error)
            request = web_request(send)
            if request and request.channel is not None:  # None: the caller has already hung up
                request.channel.loseConnection()


class PushProducer:
    """One answer as a push producer of Twisted (IPushProducer), from its first part to its last."""

    def __init__(self, request: WebRequest, send: Any) -> None:
        self._request = request
        self._send = send
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_registered = False

    async def send(self, message: dict[str, Any]) -> None:
        """Send an ASGI message when the socket has room. The last part of an answer never waits.

        It waits before the message and not after it, so a call that is cancelled while it waits has sent nothing.
        """
        if message.get("more_body"):
            await self._has_room.wait()
            self._register()
        else:
            self._unregister()
        await self._send(message)

    def _register(self) -> None:
        if not self._is_registered and self._request.channel is not None:  # None: the caller has hung up
            self._is_registered = True
            self._request.registerProducer(self, True)

    def _unregister(self) -> None:
        if self._is_registered:
            self._is_registered = False
            if self._request.channel is not None:
                self._request.unregisterProducer()

    def pauseProducing(self) -> None:  # noqa: N802  # Twisted's name
        """Make `send` wait, because the socket is full."""
        self._has_room.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        """Let `send` go on, because the socket has room."""
        self._has_room.set()

    stopProducing = resumeProducing  # noqa: N815  # the next message finds that the connection is gone


def web_request(send: Any) -> "StreamedRequest | None":
    """Return daphne's request behind an ASGI `send`, or None if another server made `send`."""
    is_daphnes = isinstance(send, functools.partial) and getattr(send.func, "__func__", None) is Server.handle_reply
    request = send.args[0] if is_daphnes else None
    return request if isinstance(request, StreamedRequest) else None


#: What waits for the application before the caller is paused. A piece has at most 64 KB.
WAITING_BYTES = 64 * 1024


class Body:
    """The body of one request, piece by piece, between Twisted and the application."""

    def __init__(self, request: "StreamedRequest") -> None:
        #: Weak, because the request keeps its body: the two would keep each other until garbage is collected.
        self._request: Any = weakref.proxy(request)
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        #: Set while there is something to tell the application.
        self._news = asyncio.Event()
        self._is_paused = False
        self._idle_seconds: float | None = None
        self._is_disconnected = False
        self.is_complete = False
        #: Whether the caller waits for `100 Continue` before it sends the body.
        self.awaits_continue = False

    async def receive(self) -> dict[str, Any]:
        """Return the next ASGI message: what has come of the body since the last call, or that the caller is gone."""
        if self.awaits_continue:
            self.awaits_continue = False
            self._request.send_continue()
        await self._news.wait()
        if self._is_disconnected:
            return {"type": "http.disconnect"}
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._waiting_bytes = 0
        self._news.clear()
        self._resume()
        return {"type": "http.request", "body": body, "more_body": not self.is_complete}

    def add(self, data: bytes) -> None:
        """Keep a piece for the application, and pause the caller if enough waits."""
        self.awaits_continue = False
        self._pieces.append(data)
        self._waiting_bytes += len(data)
        self._news.set()
        if self._waiting_bytes >= WAITING_BYTES and not self._is_paused:
            self._is_paused = True
            self._request.channel._networkProducer.pauseProducing()
            self._idle_seconds = self._request.channel.setTimeout(None)  # the caller is not slow

    def end(self) -> None:
        """Note that the last piece has come."""
        self.is_complete = True
        self.awaits_continue = False
        self._news.set()
        if self._is_paused:  # the rest belongs to the next request, and Twisted pauses that by itself
            self._is_paused = False
            self._request.channel._savedTimeOut = self._idle_seconds
            self._request.channel._networkProducer.resumeProducing()

    def disconnect(self) -> None:
        """Note that the caller is gone, or has its whole answer."""
        self._is_disconnected = True
        self.awaits_continue = False
        self._pieces.clear()
        self._news.set()

    def _resume(self) -> None:
        if self._is_paused and self._request.channel is not None:
            self._is_paused = False
            self._request.channel.setTimeout(self._idle_seconds)
            self._request.channel._networkProducer.resumeProducing()


class StreamedRequest(WebRequest):  # type: ignore[misc]  # daphne is not typed
    """daphne's request, whose application is called when the headers have come.

    Twisted's parsing of forms is switched off: 40 MB of `a&a&...` without an account froze the process for 16 s. An
    answer that does not wait for the end of the body closes the connection, and the rest of the body is not read.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._parsePOSTFormSubmission = False
        self.body = Body(self)
        self._is_upgrade = False
        #: Counts what is thrown away after the answer. None: the answer has not ended yet.
        self._thrown_away_bytes: int | None = None

    def gotLength(self, length: int | None) -> None:  # noqa: N802  # Twisted's name; the headers have come
        """Call the application. A WebSocket upgrade takes daphne's way, in `requestReceived`."""
        super().gotLength(0)  # with the length, Twisted would make a file for the body
        headers, channel = self.requestHeaders, self.channel
        headers.removeHeader(b"Daphne-Root-Path")  # from a stranger it moved every address
        upgrade = headers.getRawHeaders(b"Upgrade", [b""])[0].lower()
        self._is_upgrade = upgrade == b"websocket" and length == 0
        if self._is_upgrade:
            self.body.end()
            return
        headers.removeHeader(b"Upgrade")
        self.body.awaits_continue = self._expects_continue()
        super().requestReceived(channel._command, channel._path, channel._version)
        headers.removeHeader(b"Expect")  # else Twisted says `100 Continue` before the application was asked

    @property
    def is_lingering(self) -> bool:
        """True if its answer has ended, and the rest of its body is thrown away."""
        return self._thrown_away_bytes is not None

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        """Give the application a piece of the body, or throw it away if the answer has ended."""
        if self._thrown_away_bytes is None:
            self.body.add(data)
            return
        self._thrown_away_bytes += len(data)
        if self._thrown_away_bytes > LINGER_BYTES:
            self.channel._networkProducer.pauseProducing()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802
        """Note that the body has come to its end."""
        if self._is_upgrade:
            super().requestReceived(command, path, version)
        elif not self.is_lingering:
            self.body.end()
        else:
            self.transport.loseConnection()

    def send_continue(self) -> None:
        """Ask the caller for the body, unless the answer has begun."""
        if self.channel is not None and not self._response_started:
            self.channel._send100Continue()

    def handle_reply(self, message: dict[str, Any]) -> None:
        """Send a part of the answer. One that begins before the body has ended is the last of its connection.

        So is one that says so.
        """
        is_start = message["type"] == "http.response.start" and self.channel is not None
        is_last = is_start and (not self.body.is_complete or (b"connection", b"close") in message.get("headers", []))
        super().handle_reply(message)
        if is_last:
            self.channel.persistent = False
            self.channel.setTimeout(None)
            self.responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def handle_exception(self, exception: BaseException) -> None:
        """Answer 500, or cut the connection if the answer has begun: daphne's checker would die of a second one."""
        if self._response_started and self.channel is not None:
            self.transport.abortConnection()
        elif self.channel is not None:
            super().handle_exception(exception)

    def finish(self) -> None:
        """End the answer. If the body has not ended, close the connection, so that the caller still gets the answer.

        A socket that is closed with unread data resets the connection, and the answer may be lost. So it is closed for
        writing first, and cut when the body has ended, or LINGER_SECONDS later.
        """
        if self.body.is_complete:
            super().finish()
            return
        self.queued = True  # Twisted then keeps this request until the connection has ended
        super().finish()
        self._thrown_away_bytes = 0
        self.channel._networkProducer.unregisterProducer()
        self.channel._networkProducer.resumeProducing()
        self.transport.loseWriteConnection()
        clock: Any = reactor
        clock.callLater(LINGER_SECONDS, self.transport.abortConnection)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        """Tell the application, unless its answer has ended: then daphne has forgotten the request."""
        if not self.is_lingering:
            super().connectionLost(reason)
        else:
            http.Request.connectionLost(self, reason)

    def send_disconnect(self) -> None:
        """Tell the application that the caller is gone, or has its whole answer."""
        self.body.disconnect()

    def _expects_continue(self) -> bool:
        expected: list[bytes] = self.requestHeaders.getRawHeaders(b"Expect", [b""])
        return expected[0].lower() == b"100-continue" and self.channel._version == b"HTTP/1.1"


#: The versions that this file was written for.
DAPHNE_VERSION = "4.2.3"
TWISTED_VERSION = "26.10.0"


def stream_requests() -> None:
    """Make daphne use StreamedRequest and LimitedChannel. daphne looks both up for each connection.

    Raises ImproperlyConfigured for other versions, because what is overridden here is no interface of theirs.
    """
    if (daphne.__version__, twisted.__version__) != (DAPHNE_VERSION, TWISTED_VERSION):
        raise ImproperlyConfigured(
            f"config/serving was written for daphne {DAPHNE_VERSION} and Twisted {TWISTED_VERSION}, but daphne "
            f"{daphne.__version__} and Twisted {twisted.__version__} are installed. Install the pinned versions: "
            "pip install -r requirements.txt"
        )
    http_protocol.WebRequest = StreamedRequest
    http_protocol.HTTPFactory.protocol = LimitedChannel
    http_protocol.HTTPFactory.log = lambda factory, request: None  # config.serving.requests logs it
