"""Everything that reaches into daphne's protocol objects, in this one file.

ASGI lacks two things that Dormouse needs. First, backpressure: daphne's `send` never waits, so it would keep the whole
of a long answer to a slow caller in memory (378 MB of a 300 MB answer that the caller did not read). Twisted tells a
producer when its socket is full, so each answer becomes a producer. Second, a way to break off an answer that has
begun: daphne would leave its caller waiting for ever, so the connection is closed.

Third, an orderly end. On SIGTERM daphne cancels its applications but does not wait until they have ended, and the event
loop never runs again. At the interpreter's end Python then closes their suspended coroutines while it collects garbage.
On Python 3.11 that reaches the C module `_asyncio` after its globals are gone, and the process ends with SIGSEGV (38 of
42 times with a dispatch in flight; never on 3.13, whose module keeps its state). So the shutdown waits for them here.

daphne passes `partial(Server.handle_reply, request)` as `send`, and `request` is its `WebRequest`. Under any other
server, and if daphne changes this, answers are sent without backpressure and the log says so once.
"""

import asyncio
import functools
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from daphne.http_protocol import WebRequest
from daphne.server import Server
from twisted.internet import reactor
from twisted.internet.defer import Deferred

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
    """At SIGTERM or SIGINT, wait until all applications have ended, call `clean_up`, and exit with code 0.

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
    if tasks:
        _, pending = await asyncio.wait(tasks, timeout=END_SECONDS)
        if pending:
            logger.warning("%d requests did not end within %d s", len(pending), END_SECONDS)
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
