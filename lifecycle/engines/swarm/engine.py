"""Docker Swarm: a service is scaled up to wake it, and to 0 to put it to sleep.

A service is changed by posting its whole specification back with the version that was read. If another client has
changed it meanwhile, the swarm refuses that, and the service is read again.
"""

import json
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from lifecycle.engines import labels
from lifecycle.engines.base import OWNER, Engine, HeardEnd, Inspection, ListedInstance, Outcome
from lifecycle.engines.docker.addresses import Viewpoint
from lifecycle.engines.docker.containers import MAX_NAME
from lifecycle.engines.docker.viewpoints import Viewpoints
from lifecycle.engines.swarm import failures
from lifecycle.engines.swarm.inspection import inspection, listed, read_labels
from lifecycle.engines.swarm.managers import Managers, get, get_bytes, post
from lifecycle.engines.swarm.mark import Mark
from lifecycle.engines.swarm.services import Service, scaled_down, scaled_up, with_tasks
from lifecycle.engines.swarm.sightings import Sightings
from lifecycle.engines.swarm.tasks import read_tasks
from lifecycle.exceptions import (
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineUnreachable,
    LabelError,
    Missing,
    StartRejected,
)

#: How often the tasks of a service are read while it starts or stops.
POLL_SECONDS = 0.05
#: The shortest time that a start may take if its start-timeout is shorter, and what a stop may take beside its grace.
ACT_SECONDS = 60
#: For how long a start waits for a node: one whose tasks have just ended may have room in a moment.
NO_NODE_SECONDS = 5
#: How long what the swarm says of its nodes is used.
NODES_SECONDS = 1
#: How often a change is tried that others overtake.
TRIES = 20
#: The names that a swarm allows.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
#: The length of what stands before each piece of an output.
FRAME_BYTES = 8


class SwarmEngine(Engine):
    """The swarm whose managers are at `hosts`, by default the one that DOCKER_HOST names."""

    name = "swarm"
    keeps_mark = True

    def __init__(
        self,
        hosts: tuple[str, ...] = (),
        environment: Mapping[str, str] = os.environ,
        own_id: str | None = None,
        scope: str = "",
        network: str = "",
    ) -> None:
        """Set up the engine. The arguments after `hosts` mean what they mean for DockerEngine."""
        self._managers = Managers(hosts, environment)
        self._scope = scope
        self._viewpoints = Viewpoints(own_id, network)
        self._mark = Mark(self._managers, scope)
        self._sightings = Sightings()
        #: When the nodes were asked for, and what was said.
        self._latest_nodes: tuple[float, Mapping[str, Mapping[str, Any]]] = (-math.inf, {})

    def instances(self) -> list[ListedInstance]:
        """Return all services of the scope with the label, by three requests."""

        def ask(api: Any) -> list[Service]:
            services = get(api, "services", filters=json.dumps({"label": [labels.ENABLE]}))
            ids = [one["ID"] for one in services]
            tasks = get(api, "tasks", filters=json.dumps({"service": ids})) if ids else []
            return with_tasks(services, read_tasks(tasks, self._nodes(api)))

        found = [one for one in self._list(ask) if one.takes_part(self._scope)]
        for service in found:
            self._sightings.note(service)
        return [listed(one, self._sightings.latest(one)) for one in found]

    def near_misses(self) -> list[str]:
        """Return what is said of all services of the swarm. No filter of the engine finds a misspelt label."""
        services = self._managers.ask("list", "", lambda api: get(api, "services"))
        found = [(one["Spec"]["Name"], one["Spec"].get("Labels") or {}) for one in services]
        ours = [(name, labels.near_miss(read)) for name, read in found if labels.is_of_scope(read, self._scope)]
        return [f"{name}: {miss}" for name, miss in sorted(ours) if miss]

    def inspect(self, name: str) -> Inspection:
        """Return what three requests say of the service."""
        service, viewpoint = self._read(name)
        return inspection(service, self._sightings.latest(service), viewpoint)

    def start(self, name: str) -> Outcome:
        """Scale the service up, and return when one of its tasks runs. If that fails, scale it down again."""
        service, viewpoint = self._read(name)
        read = read_labels(service, viewpoint)
        if isinstance(read, LabelError):
            raise StartRejected(str(read))
        if any(task.is_running for task in service.tasks):
            return Outcome.ALREADY_SO
        seconds = max(ACT_SECONDS, read.start_timeout.total_seconds())
        service = self._wait_while(service, lambda one: any(task.is_ending for task in one.tasks))
        before = {task.id for task in service.tasks if not task.is_live}
        was_asleep = len(before) == len(service.tasks)
        self._change(service, lambda latest: scaled_up(latest, read.replicas))
        try:
            with _may_take_effect():
                self._wait_until_it_runs(name, before, seconds)
        except EngineRefused:
            if was_asleep:
                with suppress(EngineError):  # what was rejected does not run
                    self.stop(name, 0)
            raise
        return Outcome.DONE

    def stop(self, name: str, grace_seconds: float) -> Outcome:
        """Scale the service to 0, and return when each of its tasks has ended, or was lost with its node.

        The grace is the service's own, because the swarm takes no other.
        """
        service, _ = self._read(name)
        latest = {task.id for task in service.tasks[-(service.replicas or 1) :]}
        was_alive = any(task.is_alive for task in service.tasks)
        self._change(service, scaled_down)
        service = self._wait_while(service, lambda one: any(task.is_alive for task in one.tasks))
        if any(task.is_lost and task.id in latest for task in service.tasks):
            return Outcome.UNCONFIRMED
        return Outcome.DONE if was_alive else Outcome.ALREADY_SO

    def pause(self, name: str) -> Outcome:
        """Refuse, because a swarm cannot freeze its tasks."""
        self._read(name)
        raise EngineRefused("a swarm cannot pause a service")

    def resume(self, name: str) -> Outcome:
        """Do nothing, because nothing is ever paused."""
        self._read(name)
        return Outcome.ALREADY_SO

    def output(self, name: str, lines: int, mark: str = "") -> str:
        """Return the last lines of the latest task. The swarm has forgotten it after a scale-down."""
        service, _ = self._read(name)
        task = service.shown_task
        if not lines or task is None or task.is_lost:
            return ""

        def ask(api: Any) -> bytes:
            return get_bytes(api, f"tasks/{task.id}/logs", stdout=1, stderr=1, tail=lines)

        found = self._managers.ask("logs", name, ask)
        return (found if service.has_terminal else _without_frames(found)).decode(errors="replace")

    def heard_end(self, incarnation: str) -> HeardEnd | None:
        """Return that a person asked for the end, if the service was seen at 0 replicas. Else nothing is known."""
        return HeardEnd(frozenset({signal.SIGTERM})) if self._sightings.was_scaled_down(incarnation) else None

    def mark(self, ours: Mapping[str, str], kind: str = OWNER) -> Mapping[str, str]:
        """Return the labels of a config of the swarm."""
        return self._mark.make(ours, kind)

    def find_mark(self, kind: str = OWNER) -> Mapping[str, str] | None:
        """Return the labels of the config, or None if there is none."""
        return self._mark.find(kind)

    def remove_mark(self, kind: str = OWNER) -> None:
        """Remove the config. Do nothing if there is none."""
        self._mark.remove(kind)

    def close(self) -> None:
        """Close the connections to the managers."""
        self._managers.close()

    def _list(self, ask: Callable[[Any], list[Service]]) -> list[Service]:
        """Return the services. If one was removed before its tasks were asked for, ask again."""
        for _ in range(TRIES):
            with suppress(Missing):
                return self._managers.ask("list", "", ask)
        raise EngineBusy("services are removed again and again while they are listed")

    def _read(self, name: str) -> tuple[Service, Viewpoint]:
        """Return the service as it is now, and the viewpoint from which it is reached. Raises Missing."""
        if not NAME.fullmatch(name) or len(name) > MAX_NAME:
            raise Missing(name)

        def ask(api: Any) -> tuple[Service, Viewpoint]:
            data = get(api, f"services/{name}")
            tasks = get(api, "tasks", filters=json.dumps({"service": [data["ID"]]}))
            found = with_tasks([data], read_tasks(tasks, self._nodes(api)))[0]
            if found.shown_task and found.shown_task.is_taken_down:  # its node as it is now may say why
                found = with_tasks([data], read_tasks(tasks, self._nodes(api, remembered_seconds=0)))[0]
            return found, self._viewpoints.of(api)

        try:
            service, viewpoint = self._managers.ask("inspect", name, ask)
        except Missing:
            self._sightings.note_gone(name)
            raise
        if service.name != name or not service.takes_part(self._scope):  # a manager also knows it by its id
            raise Missing(name)
        self._sightings.note(service)
        return service, viewpoint

    def _change(self, service: Service, change: Callable[[Service], dict[str, Any] | None]) -> None:
        """Post the specification that `change` makes of the service, unless there is nothing to change any more.

        If others have changed the service meanwhile, read it again. That may have been this call, if a manager died
        before it answered. Raises EngineBusy if they do so again and again.
        """
        latest = service
        for _ in range(TRIES):
            spec = change(latest)
            if spec is None:
                return
            path, version = f"services/{latest.id}/update", latest.version
            try:
                self._managers.ask("update", service.name, lambda api: post(api, path, spec, version=version))  # noqa: B023  # called at once
                return
            except EngineBusy:
                time.sleep(POLL_SECONDS)
            with _may_take_effect():
                latest, _ = self._read(service.name)
        raise EngineBusy("others change the service again and again")

    def _wait_while(self, service: Service, condition: Callable[[Service], bool]) -> Service:
        """Read the service until `condition` is false, and return it. Raises EngineUnreachable after its grace."""
        deadline = time.monotonic() + service.grace_seconds + ACT_SECONDS
        service, _ = self._read(service.name)
        while condition(service):
            if time.monotonic() >= deadline:
                raise EngineUnreachable(f"the tasks of {service.name} have not ended after their grace")
            time.sleep(POLL_SECONDS)
            service, _ = self._read(service.name)
        return service

    def _wait_until_it_runs(self, name: str, before: set[str], seconds: float) -> None:
        """Return when a task runs or has run that is none of `before`. Raises StartRejected."""
        began = time.monotonic()
        while True:
            service, _ = self._read(name)
            tasks = [task for task in service.tasks if task.id not in before]
            if any(task.is_running or task.has_run for task in tasks):
                return
            waited = time.monotonic() - began
            is_patient = waited < NO_NODE_SECONDS or self._has_a_new_leader()
            rejection = failures.rejection_of(service, tasks, is_patient=is_patient)
            if rejection is None and waited >= seconds:
                rejection = failures.too_slow(tasks, seconds)
            if rejection:
                raise rejection
            time.sleep(POLL_SECONDS)

    def _has_a_new_leader(self) -> bool:
        """Return whether a leader has not heard of a node yet, which it then calls unknown for up to half a minute."""
        _, nodes = self._latest_nodes
        return any(node["Status"]["State"] == "unknown" for node in nodes.values())

    def _nodes(self, api: Any, remembered_seconds: float = NODES_SECONDS) -> Mapping[str, Mapping[str, Any]]:
        """Return the nodes of the swarm by id, as they were at most so many seconds ago."""
        asked, nodes = self._latest_nodes
        if time.monotonic() - asked >= remembered_seconds:
            nodes = {one["ID"]: one for one in get(api, "nodes")}
            self._latest_nodes = (time.monotonic(), nodes)
        return nodes


@contextmanager
def _may_take_effect() -> Iterator[None]:
    """Say of each error inside the block that what was asked for before it may still take effect."""
    try:
        yield
    except EngineUnreachable as error:
        raise replace(error, was_asked=True) from error


def _without_frames(content: bytes) -> bytes:
    """Return an output without the headers of 8 bytes between its pieces."""
    found, position = [], 0
    while position + FRAME_BYTES <= len(content):
        begin = position + FRAME_BYTES
        position = begin + int.from_bytes(content[position + 4 : begin])
        found.append(content[begin:position])
    return b"".join(found)
