"""This process's lifecycle, put together from the settings at its first use."""

import functools
import threading

from asgiref.sync import sync_to_async

from lifecycle.dispatch.dispatcher import Dispatcher
from lifecycle.dispatch.wakes import Waker
from lifecycle.engines import engine_from_settings
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.workers.heartbeats import ThisWorker

_assembling = threading.Lock()


def lifecycle(kind: str = "web") -> Lifecycle:
    """The same at every call. The first makes the process known as a worker of `kind`."""
    with _assembling:
        return _lifecycle(kind)


async def dispatcher() -> Dispatcher:
    """The one of the web process. Made in a thread, for that asks the database."""
    return _made[0] if _made else await sync_to_async(_make_dispatcher)()


_made: list[Dispatcher] = []


def _make_dispatcher() -> Dispatcher:
    with _assembling:
        if not _made:
            _made.append(Dispatcher(Waker(_lifecycle("web"))))
        return _made[0]


@functools.cache
def _lifecycle(kind: str) -> Lifecycle:
    worker = ThisWorker(kind)
    worker.start()
    return Lifecycle(engine_from_settings(), worker)
