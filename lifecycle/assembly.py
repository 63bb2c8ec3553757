"""This process's lifecycle and dispatcher, made from the settings at their first use."""

import functools
import threading

from asgiref.sync import sync_to_async

from lifecycle.dispatch.dispatcher import Dispatcher
from lifecycle.dispatch.wakes import Wakes
from lifecycle.engines import engine_from_settings
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.workers.heartbeats import ThisWorker

_lock = threading.Lock()


def lifecycle(kind: str = "web") -> Lifecycle:
    """Return this process's lifecycle. The first call registers the process as a worker of `kind`.

    Raises DatabaseError if the worker cannot be registered.
    """
    with _lock:
        return _lifecycle(kind)


async def dispatcher() -> Dispatcher:
    """Return the web process's dispatcher. The first call makes it in a thread, because it asks the database."""
    return _dispatchers[0] if _dispatchers else await sync_to_async(_make_dispatcher)()


#: The one dispatcher, when it has been made.
_dispatchers: list[Dispatcher] = []


def _make_dispatcher() -> Dispatcher:
    with _lock:
        if not _dispatchers:
            _dispatchers.append(Dispatcher(Wakes(_lifecycle("web"))))
        return _dispatchers[0]


@functools.cache
def _lifecycle(kind: str) -> Lifecycle:
    worker = ThisWorker(kind)
    worker.start()
    return Lifecycle(engine_from_settings(), worker)
