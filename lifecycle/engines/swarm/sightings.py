"""Remembers what was seen of services, because the swarm forgets: it lists no task of a service at 0 replicas."""

import threading
from typing import TypeVar

from lifecycle.engines.swarm.services import Service

T = TypeVar("T")

#: How many services, and how many incarnations that were scaled down, are remembered.
MAX_REMEMBERED = 10_000


class Sightings:
    """Remembers the latest incarnations of services. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By a service's name: its id and version. A service that is made later has a higher version than all before.
        self._ids: dict[str, tuple[str, int]] = {}
        #: By a service's id: its latest incarnation that has run.
        self._latest: dict[str, str] = {}
        #: The ids of the services that were last seen at 0 replicas, or gone.
        self._at_zero: dict[str, None] = {}
        #: The incarnations that were ended by that, the oldest first.
        self._scaled_down: dict[str, None] = {}

    def note(self, service: Service) -> None:
        """Note how the service is now."""
        task = service.shown_task
        with self._lock:
            before, version = self._ids.get(service.name, (service.id, 0))
            if before != service.id:  # it was removed, and another one was made under its name
                if service.version < version:  # the other one: this was read before
                    return
                self._note_zero(before)
            _keep(self._ids, service.name, (service.id, service.version))
            if task and (task.has_run or task.is_lost):
                _keep(self._latest, service.id, service.incarnation)
            if service.replicas == 0:
                self._note_zero(service.id)
            else:
                self._at_zero.pop(service.id, None)

    def note_gone(self, name: str) -> None:
        """Note that the swarm has no service of this name."""
        with self._lock:
            if name in self._ids:
                self._note_zero(self._ids.pop(name)[0])

    def latest(self, service: Service) -> str:
        """Return the latest incarnation that was seen to run, or an empty text."""
        with self._lock:
            return self._latest.get(service.id, "")

    def was_scaled_down(self, incarnation: str) -> bool:
        """Return whether the end of the incarnation was asked for, by scaling its service to 0 or by removing it."""
        with self._lock:
            return incarnation in self._scaled_down or incarnation.partition("@")[0] in self._at_zero

    def _note_zero(self, id: str) -> None:
        _keep(self._at_zero, id, None)
        if id in self._latest:
            _keep(self._scaled_down, self._latest[id], None)


def _keep(remembered: dict[str, T], key: str, value: T) -> None:
    """Remember the value as the youngest one, and forget the oldest one if there are too many."""
    remembered.pop(key, None)
    remembered[key] = value
    if len(remembered) > MAX_REMEMBERED:
        del remembered[next(iter(remembered))]
