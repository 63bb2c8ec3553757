"""A service and its tasks, and the specifications that scale it."""

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lifecycle.engines import labels
from lifecycle.engines.docker.containers import MAX_NAME
from lifecycle.engines.swarm.tasks import Task, shown_task

#: How long the swarm grants a task to end if its service does not say.
GRACE_SECONDS = 10


@dataclass(frozen=True)
class Service:
    """A service with its tasks, as a manager says at one moment."""

    data: Mapping[str, Any]
    #: The oldest first.
    tasks: list[Task]

    @property
    def id(self) -> str:
        """Its id. A service that was made again under the same name has another one."""
        return str(self.data["ID"])

    @property
    def name(self) -> str:
        """Its name, which is the instance's."""
        return str(self.data["Spec"]["Name"])

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its specification."""
        found: Mapping[str, Any] = self.data["Spec"]
        return found

    @property
    def version(self) -> int:
        """The version of its specification, which each change counts up."""
        return int(self.data["Version"]["Index"])

    @property
    def labels(self) -> dict[str, str]:
        """Its own labels. Those of its containers do not count."""
        return dict(self.spec.get("Labels") or {})

    @property
    def replicas(self) -> int | None:
        """The number of tasks that are wanted. None: its mode has no such number."""
        found = self.spec["Mode"].get("Replicated")
        return None if found is None else int(found.get("Replicas", 1))

    @property
    def container(self) -> Mapping[str, Any]:
        """The part of its specification about its containers."""
        found: Mapping[str, Any] = self.spec["TaskTemplate"].get("ContainerSpec") or {}
        return found

    @property
    def has_terminal(self) -> bool:
        """True if its containers have a terminal. Then their output is not framed."""
        return bool(self.container.get("TTY"))

    @property
    def grace_seconds(self) -> float:
        """The time that the swarm grants its tasks to end before it kills them."""
        nanoseconds = self.container.get("StopGracePeriod")
        return GRACE_SECONDS if nanoseconds is None else nanoseconds / 10**9

    @property
    def shown_task(self) -> Task | None:
        """The task whose run is the service's."""
        return shown_task(self.tasks)

    @property
    def incarnation(self) -> str:
        """The service's id with its task's. Empty: the swarm lists none of its tasks any more."""
        task = self.shown_task
        return f"{self.id}@{task.id}" if task else ""

    def takes_part(self, scope: str) -> bool:
        """Return whether it opted in, and is of the scope."""
        return labels.is_enabled(self.labels) and labels.is_of_scope(self.labels, scope) and len(self.name) <= MAX_NAME


def with_tasks(services: list[Mapping[str, Any]], tasks: list[Task]) -> list[Service]:
    """Return each service of a list with its tasks."""
    by_service = defaultdict(list)
    for task in tasks:
        by_service[task.data["ServiceID"]].append(task)
    return [_with_own_tasks(Service(one, by_service[one["ID"]])) for one in services]


def _with_own_tasks(service: Service) -> Service:
    """Return the service with tasks that know whether it wants any."""
    if service.replicas != 0:
        return service
    return replace(service, tasks=[replace(task, is_service_awake=False) for task in service.tasks])


def scaled_up(service: Service, replicas: int) -> dict[str, Any] | None:
    """Return the specification that starts the service, or None if it starts already.

    Replicas alone changes, unless tasks are left that have ended or were lost: the swarm counts them as started, and
    would start none. An update by force replaces them.
    """
    if any(task.is_live for task in service.tasks):
        return None
    spec = _with_replicas(service, replicas)
    if service.tasks or service.replicas:
        template = spec["TaskTemplate"]
        template["ForceUpdate"] = template.get("ForceUpdate", 0) + 1
    return spec


def scaled_down(service: Service) -> dict[str, Any] | None:
    """Return the specification of the service at 0 replicas, or None if it is there already."""
    return _with_replicas(service, 0) if service.replicas else None


def _with_replicas(service: Service, replicas: int) -> dict[str, Any]:
    spec: dict[str, Any] = copy.deepcopy(dict(service.spec))
    spec["Mode"]["Replicated"]["Replicas"] = replicas
    return spec
