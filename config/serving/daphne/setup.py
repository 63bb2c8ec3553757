"""The web process under daphne: what wraps the application, and what is installed before daphne serves it."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from daphne.access import AccessLogGenerator
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning

from config.serving.daphne.requests import AsgiApplication, Backpressure, CloseBrokenAnswers, stream_requests
from config.serving.daphne.web_socket import WebSocketBackpressure, stream_web_sockets
from config.serving.orderly_end import end_applications, exit_at_next_signal, leave


def adapt(application: AsgiApplication) -> AsgiApplication:
    """Return the application with what ASGI under daphne lacks."""
    return CloseBrokenAnswers(Backpressure(WebSocketBackpressure(application)))


def prepare(
    when_serving: Callable[[], None], drain: Callable[[], Awaitable[None]], clean_up: Callable[[], None]
) -> None:
    """Install our classes in daphne, and an orderly end.

    On SIGTERM daphne cancels its applications but does not wait until they have ended, and the event loop never runs
    again. At the interpreter's end Python closes their suspended coroutines while it collects garbage. On Python 3.11
    that reaches the C module `_asyncio` after its globals are gone, and the process ends with SIGSEGV (38 of 42 times
    with a dispatch in flight; never on 3.13, whose module keeps its state).

    Args:
        when_serving: is called when daphne begins to serve, and not in a process that only imports config.asgi.
        drain: is awaited at SIGTERM or SIGINT, while everything is served on. A second signal does not wait for it.
        clean_up: is called when the applications have ended.
    """
    stream_requests()
    stream_web_sockets()
    AccessLogGenerator.write_entry = lambda *arguments, **details: None  # config.serving.requests logs them
    now: Any = reactor  # the stubs of Twisted have these signatures wrong
    now.callWhenRunning(when_serving)
    # Later, because Twisted sets handlers of its own when it begins to run.
    now.callWhenRunning(now.callLater, 0, _take_signals, drain)
    now.addSystemEventTrigger("before", "shutdown", _end_applications)
    now.addSystemEventTrigger("after", "shutdown", leave, clean_up)


def _end_applications() -> "Deferred[None]":
    """Return a Deferred, for which Twisted waits before it closes the connections."""
    exit_at_next_signal()
    return Deferred.fromFuture(asyncio.ensure_future(end_applications()))


def _take_signals(drain: Callable[[], Awaitable[None]]) -> None:
    draining: list[asyncio.Task[None]] = []

    def end() -> None:
        if draining:
            _stop_reactor()
        else:
            draining.append(asyncio.ensure_future(_drain_and_stop(drain)))

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: reactor.callFromThread(end))


async def _drain_and_stop(drain: Callable[[], Awaitable[None]]) -> None:
    try:
        await drain()
    finally:
        _stop_reactor()


def _stop_reactor() -> None:
    running: Any = reactor
    with suppress(ReactorNotRunning):  # it stops already
        running.stop()
