"""The orderly end of a web process under daphne, with exit code 0.

On SIGTERM daphne cancels its applications but does not wait until they have ended, and the event loop never runs again.
At the interpreter's end Python closes their suspended coroutines while it collects garbage. On Python 3.11 that reaches
the C module `_asyncio` after its globals are gone, and the process ends with SIGSEGV (38 of 42 times with a dispatch in
flight; never on 3.13, whose module keeps its state).
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning

logger = logging.getLogger(__name__)

#: How long applications may take to end after they were cancelled, and then the clean-up.
END_SECONDS = 5
CLEAN_UP_SECONDS = 5
#: Time for the last bytes of a stream to leave.
FLUSH_SECONDS = 0.05


def end_in_order(clean_up: Callable[[], None], drain: Callable[[], Awaitable[None]]) -> None:
    """Install an orderly end, with exit code 0.

    At SIGTERM or SIGINT, `drain` is awaited while everything is served on. Then, or at a second signal, applications
    are cancelled and waited for, and `clean_up` is called; both are bounded in time. A signal after that ends the
    process at once.
    """
    reactor_now: Any = reactor
    # Later, because Twisted sets handlers of its own when it begins to run.
    reactor_now.callWhenRunning(reactor_now.callLater, 0, _take_signals, drain)
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
