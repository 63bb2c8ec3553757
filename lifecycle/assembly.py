"""This process's lifecycle and dispatcher, made from the settings at their first use."""

import logging
import threading

from asgiref.sync import sync_to_async
from django.db import DatabaseError

from lifecycle.clock import DatabaseClock
from lifecycle.dispatch.dispatcher import Dispatcher
from lifecycle.dispatch.wakes import Wakes
from lifecycle.engines import engine_from_settings
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.workers.heartbeats import ThisWorker

logger = logging.getLogger(__name__)

_lock = threading.Lock()
#: This process's clock, which agrees with every other process on the same database.
clock = DatabaseClock()


def lifecycle(kind: str = "web") -> Lifecycle:
    """Return this process's lifecycle. The first call registers the process as a worker of `kind`.

    Raises DatabaseError if the worker cannot be registered.
    """
    with _lock:
        return _lifecycle(kind)


async def dispatcher() -> Dispatcher:
    """Return the web process's dispatcher. The first call makes it in a thread, because it asks the database."""
    return _dispatchers[0] if _dispatchers else await sync_to_async(_make_dispatcher)()


def database_trouble() -> str:
    """Return why this process cannot write to the database, or an empty text."""
    return next((one.worker.trouble for one in list(_lifecycles.values()) if one.worker.trouble), "")


def workers() -> list[ThisWorker]:
    """Return the workers that this process has registered. In a process that supervises there is one."""
    return [one.worker for one in list(_lifecycles.values())]


def has_neighbour() -> bool:
    """Return whether another installation manages the instances, according to the latest look of this process."""
    return any(one.neighbours.found for one in list(_lifecycles.values()))


def shut_down() -> None:
    """Give this process's leases back, and unregister its worker. Other workers settle at once what it still holds."""
    for dispatcher in _dispatchers:
        dispatcher.shut_down()
    for lifecycle in _lifecycles.values():
        try:
            lifecycle.worker.end()
        except DatabaseError as error:
            logger.warning("This worker could not be unregistered; others notice that it has ended: %s", error)


#: The one dispatcher, when it has been made.
_dispatchers: list[Dispatcher] = []
#: By kind of worker: its lifecycle, when it has been made.
_lifecycles: dict[str, Lifecycle] = {}


def _make_dispatcher() -> Dispatcher:
    with _lock:
        if not _dispatchers:
            _dispatchers.append(Dispatcher(Wakes(_lifecycle("web"))))
        return _dispatchers[0]


def _lifecycle(kind: str) -> Lifecycle:
    if kind not in _lifecycles:
        worker = ThisWorker(kind, clock)
        worker.start()
        _lifecycles[kind] = Lifecycle(engine_from_settings(), worker, clock=clock)
        _lifecycles[kind].neighbours.watch()
    return _lifecycles[kind]
