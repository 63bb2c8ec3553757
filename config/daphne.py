"""Everything that reaches into daphne's protocol objects, in this one file.

ASGI and daphne lack four things that Dormouse needs:

1. Backpressure. daphne's `send` never waits, so it would keep the whole of a long answer to a slow caller in memory
   (378 MB of a 300 MB answer that the caller did not read). Twisted tells a producer when its socket is full, so each
   answer becomes a producer (`PushProducer`).
2. A way to break off an answer that has begun. daphne would leave its caller waiting for ever, so the connection is
   closed (`CloseBrokenAnswers`).
3. Limits for requests whose body was not read yet (`GuardedRequest`).
4. An orderly end (`end_in_order`). On SIGTERM daphne cancels its applications but does not wait until they have ended,
   and the event loop never runs again. At the interpreter's end Python closes their suspended coroutines while it
   collects garbage. On Python 3.11 that reaches the C module `_asyncio` after its globals are gone, and the process
   ends with SIGSEGV (38 of 42 times with a dispatch in flight; never on 3.13, whose module keeps its state).

daphne passes `partial(Server.handle_reply, request)` as `send`, and `request` is its `WebRequest`. Under any other
server, and if daphne changes this, answers are sent without backpressure and the log says so once.
"""

import asyncio
import functools
import logging
import os
import re
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from channels.db import database_sync_to_async
from daphne import http_protocol
from daphne.http_protocol import WebRequest
from daphne.server import Server
from django.conf import settings
from django.http import HttpResponse
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from access.permissions import DISPATCH
from access.problems import ProblemResponse, refusal
from access.users import current_access, token_user
from config.concurrency import DISPATCH_PATH
from lifecycle.exceptions import AgentBrokeOff

logger = logging.getLogger(__name__)

AsgiApplication = Callable[..., Awaitable[None]]

#: How long applications may take to end after they were cancelled, and then the clean-up.
END_SECONDS = 5
CLEAN_UP_SECONDS = 5
#: Time for the last bytes of a stream to leave.
FLUSH_SECONDS = 0.05


class Backpressure:
    """ASGI middleware whose `send` waits while the caller's socket is full."""

    def __init__(self, app: AsgiApplication) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Call the application with a `send` that waits, if the server is daphne."""
        request = web_request(send)
        await self.app(scope, receive, PushProducer(request, send).send if request else send)


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


def web_request(send: Any) -> WebRequest | None:
    """Return daphne's request behind an ASGI `send`, or None if another server made `send`."""
    if not isinstance(send, functools.partial) or getattr(send.func, "__func__", None) is not Server.handle_reply:
        _warn_once(type(send).__name__)
        return None
    request = send.args[0]
    return request if isinstance(request, WebRequest) else None


@functools.cache
def _warn_once(kind: str) -> None:
    logger.warning("Answers are sent without backpressure: the server's send is a %s, not daphne's", kind)


def end_in_order(clean_up: Callable[[], None]) -> None:
    """Install an orderly end: at SIGTERM or SIGINT, wait for all applications, call `clean_up`, and exit with code 0.

    Both are bounded in time. A second signal ends the process at once.
    """
    triggers: Any = reactor  # the stubs of Twisted have this signature wrong
    triggers.addSystemEventTrigger("before", "shutdown", _end_applications)
    triggers.addSystemEventTrigger("after", "shutdown", _leave, clean_up)


def _end_applications() -> "Deferred[None]":
    """Return a Deferred, for which Twisted waits before it closes the connections."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os._exit(128 + number))
    return Deferred.fromFuture(asyncio.ensure_future(_cancel_and_wait()))


async def _cancel_and_wait() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        if not task.cancelling():  # a second cancel would break off the clean-up after the first, which daphne made
            task.cancel()
    for _ in range(END_SECONDS):
        if tasks:
            _, tasks = await asyncio.wait(tasks, timeout=1)
        for task in tasks:  # one whose cancellation got lost: httpcore was seen to lose it while it connects
            task.cancel()
    if tasks:
        logger.warning("%d requests did not end within %d s", len(tasks), END_SECONDS)
    await asyncio.sleep(FLUSH_SECONDS)


def _leave(clean_up: Callable[[], None]) -> None:
    """Run `clean_up` in a thread, and exit when it has ended, or takes too long.

    `os._exit` is used because Python would wait for the threads of every pool, for example for a locked database.
    """
    cleaning = threading.Thread(target=clean_up, name="clean up", daemon=True)
    cleaning.start()
    cleaning.join(CLEAN_UP_SECONDS)
    if cleaning.is_alive():
        logger.warning("The clean-up did not end within %d s; other workers finish it", CLEAN_UP_SECONDS)
    logging.shutdown()
    os._exit(0)


#: The largest body of a request that is not work for an agent: the login, the admin.
MAX_BODY_BYTES: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
#: A larger body of work is only read after access was decided.
SMALL_BODY_BYTES = 64 * 1024
IS_DISPATCH = re.compile(DISPATCH_PATH.encode())
#: How long a refused caller may take to read the answer, before its connection is cut.
LINGER_SECONDS = 2


class GuardedRequest(WebRequest):  # type: ignore[misc]  # daphne is not typed
    """daphne's request, with limits that hold before the body is read.

    Twisted parses every POST that says it is a form, whole, on the event loop: 40 MB of `a&a&...` without an account
    froze the process for 16 s. Only Django parses forms now. A body that is too large, or is work of a caller who may
    not dispatch, is not read: the caller gets an answer, and the connection is closed.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._parsePOSTFormSubmission = False
        self._body_bytes = 0
        self._max_bytes: int | None = MAX_BODY_BYTES
        self._is_refused = False

    def gotLength(self, length: int | None) -> None:  # noqa: N802  # Twisted's name; the headers have come
        """Decide how large the body may be."""
        super().gotLength(length)
        self.requestHeaders.removeHeader(b"Daphne-Root-Path")  # from a stranger it moved every address
        path, _, _ = self.channel._path.partition(b"?")
        if IS_DISPATCH.fullmatch(path) and self.channel._command == b"POST":
            self._max_bytes = None
            if length is None or length > SMALL_BODY_BYTES:
                self._check_access()
        elif length is not None and length > MAX_BODY_BYTES:
            self._refuse_size()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        """Keep a part of the body, unless it is not wanted."""
        self._body_bytes += len(data)
        if self._is_refused:
            return
        if self._max_bytes is not None and self._body_bytes > self._max_bytes:
            self._refuse_size()
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802
        """Call the application, unless the request was refused."""
        if not self._is_refused:
            super().requestReceived(command, path, version)

    def _check_access(self) -> None:
        """Read on only if the caller may dispatch. A view decides that again, when the request is complete."""
        authorization = self._header(b"Authorization")
        session_key = self.received_cookies.get(settings.SESSION_COOKIE_NAME.encode(), b"").decode("latin-1")
        if authorization is not None or not session_key:  # this is decided without the database
            user = token_user(authorization or "")
            if not user.has_perm(DISPATCH):
                self._refuse_access(user)
        else:
            self.channel._networkProducer.pauseProducing()
            checking = asyncio.ensure_future(database_sync_to_async(current_access)(DISPATCH, None, session_key))
            checking.add_done_callback(self._on_access)

    def _on_access(self, checking: "asyncio.Future[tuple[Any, bool]]") -> None:
        if self.channel is None:  # the caller has hung up
            return
        if checking.cancelled() or checking.exception():
            self._send_and_close(ProblemResponse(503, "The database does not answer."))
            return
        user, permitted = checking.result()
        if permitted:
            self.channel._networkProducer.resumeProducing()
        else:
            self._refuse_access(user)

    def _refuse_access(self, user: Any) -> None:
        refused = refusal(user, False, DISPATCH)
        assert refused
        self._send_and_close(refused)

    def _refuse_size(self) -> None:
        self._send_and_close(ProblemResponse(413, f"The body may have at most {MAX_BODY_BYTES} bytes."))

    def _send_and_close(self, response: HttpResponse) -> None:
        """Answer, and close the connection without reading the rest of the body."""
        if self._is_refused or self.channel is None:
            return
        self._is_refused = True
        lines = [f"HTTP/1.1 {response.status_code} {response.reason_phrase}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in response.items()]
        lines.append(f"Content-Length: {len(response.content)}")
        transport = self.channel.transport
        transport.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + response.content)
        # Closed in two steps: a socket that is closed with unread data resets the connection, and the answer is lost.
        self.channel._networkProducer.pauseProducing()
        if hasattr(transport, "loseWriteConnection"):
            transport.loseWriteConnection()
        clock: Any = reactor
        clock.callLater(LINGER_SECONDS, transport.abortConnection)

    def _header(self, name: bytes) -> str | None:
        values = self.requestHeaders.getRawHeaders(name)
        return values[0].decode("latin-1") if values else None


def guard_requests() -> None:
    """Make daphne use GuardedRequest. daphne looks the class up in its module for each connection."""
    http_protocol.WebRequest = GuardedRequest
