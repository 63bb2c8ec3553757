"""This process's lifecycle, put together from the settings at its first use."""

import functools
import threading

from lifecycle.dispatch import Dispatcher
from lifecycle.engines import engine_from_settings
from lifecycle.transitions import Lifecycle
from lifecycle.waking import Waker
from lifecycle.workers import ThisWorker

_assembling = threading.Lock()


def lifecycle(kind: str = "web") -> Lifecycle:
    """The same at every call. The first makes the process known as a worker of `kind`."""
    with _assembling:
        return _lifecycle(kind)


def dispatcher() -> Dispatcher:
    """The one of the web process."""
    with _assembling:
        return _dispatcher()


@functools.cache
def _dispatcher() -> Dispatcher:
    return Dispatcher(Waker(_lifecycle("web")))


@functools.cache
def _lifecycle(kind: str) -> Lifecycle:
    worker = ThisWorker(kind)
    worker.start()
    return Lifecycle(engine_from_settings(), worker)
