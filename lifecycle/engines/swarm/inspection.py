"""Reading a service: its labels and what is wrong with them, its phase, and its addresses."""

from datetime import timedelta

from lifecycle.engines import labels
from lifecycle.engines.base import Address, Inspection, ListedInstance, Phase
from lifecycle.engines.docker.addresses import Viewpoint
from lifecycle.engines.docker.containers import signal_number
from lifecycle.engines.swarm.addresses import candidates, is_published_at_the_node, published_ports
from lifecycle.engines.swarm.services import Service
from lifecycle.engines.swarm.tasks import phase_of
from lifecycle.exceptions import LabelError


def listed(service: Service, remembered: str) -> ListedInstance:
    """Return what a list says of a service. `remembered` is its latest incarnation that was seen before."""
    phase = phase_of(service.data, service.tasks, bool(remembered))
    return ListedInstance(service.name, service.id, phase, service.labels)


def inspection(service: Service, remembered: str, viewpoint: Viewpoint) -> Inspection:
    """Return what an inspection says of a service. `remembered` is as for `listed`."""
    read = read_labels(service, viewpoint)
    phase = phase_of(service.data, service.tasks, bool(remembered))
    task = service.shown_task
    addresses = _addresses(service, read, viewpoint)
    return Inspection(
        name=service.name,
        phase=phase,
        incarnation=service.incarnation or remembered,
        labels=read,
        addresses=tuple(dict.fromkeys(one for of_task in addresses for one in of_task)),
        tasks=addresses if len(addresses) > 1 else (),
        exit_code=task.exit_code if task else None,
        may_begin=bool(service.replicas) and not any(one.is_live for one in service.tasks),
        taken_away=task.taken_away if task else "",
        lost=bool(task and task.is_lost),
        health="healthy" if phase is Phase.RUNNING else "",  # the swarm counts a task as running when it is healthy
        ran_seconds=task.ran_seconds if task else None,
        stop_signal=signal_number(service.container.get("StopSignal") or "TERM"),
        warnings=_warnings(service, read),
    )


def read_labels(service: Service, viewpoint: Viewpoint) -> labels.Labels | LabelError:
    """Return the labels of a service, or what is wrong with them or with the service."""
    found = service.labels
    exposed = tuple(int(one["TargetPort"]) for one in published_ports(service.spec))
    try:
        read = labels.read(service.name, found, exposed=exposed, health_interval=_health_interval(service))
    except LabelError as error:
        return error
    return _misfit(service, read) or _unreachable(service, read, viewpoint) or read


def _misfit(service: Service, read: labels.Labels) -> LabelError | None:
    """Return what makes it impossible to put the service to sleep and to wake it."""

    def error(reason: str, key: str = labels.ENABLE, value: str = "true") -> LabelError:
        return LabelError(service.name, key, value, reason)

    if service.replicas is None:
        mode = next(iter(service.spec["Mode"]), "another")
        return error(f"cannot be: its mode is {mode}, which has no replicas to take away; use the mode replicated")
    policy = service.spec["TaskTemplate"].get("RestartPolicy") or {}
    condition = policy.get("Condition") or "any"
    if condition != "none":
        return error(f"cannot be: its restart condition is {condition}; set restart_policy: condition: none")
    if read.sleep == "pause":
        return error("cannot be: a swarm has no pause; use stop", f"{labels.PREFIX}sleep", read.sleep)
    return None


def _unreachable(service: Service, read: labels.Labels, viewpoint: Viewpoint) -> LabelError | None:
    """Return what makes it impossible to reach one task's port, which can be known before anything is started."""
    attached = service.spec["TaskTemplate"].get("Networks") or service.spec.get("Networks")
    is_on_a_network = bool(attached) and (viewpoint.own_networks is not None or read.network)
    if not read.port or is_published_at_the_node(service.spec, read.port) or is_on_a_network:
        return None
    mesh = any(one["TargetPort"] == read.port for one in published_ports(service.spec))
    why = "is published through the routing mesh, which answers for any task" if mesh else "is not published"
    reason = f"{why}: publish it with mode: host, or run Dormouse in a container on one of the service's networks"
    return LabelError(service.name, f"{labels.PREFIX}port", str(read.port), reason)


def _addresses(
    service: Service, read: labels.Labels | LabelError, viewpoint: Viewpoint
) -> tuple[tuple[Address, ...], ...]:
    """Return the addresses of each task that runs, the oldest task first."""
    if isinstance(read, LabelError) or not read.port:
        return ()
    running = [task for task in service.tasks if task.is_running]
    return tuple(candidates(task.data, task.node, read.port, viewpoint, read.network) for task in running)


def _health_interval(service: Service) -> timedelta | None:
    """Return how often its HEALTHCHECK runs, or 0 if only its image may know. None: it has none that is asked for."""
    check = service.container.get("Healthcheck") or {}
    if check.get("Test") and check["Test"][0] != "NONE":
        nanoseconds = check.get("Interval")
        return timedelta(microseconds=nanoseconds / 1000) if nanoseconds else labels.DOCKER_HEALTH_INTERVAL
    return timedelta(0) if service.labels.get(f"{labels.PREFIX}ready", "").strip() == "health" else None


def _warnings(service: Service, read: labels.Labels | LabelError) -> tuple[str, ...]:
    found = [f"{name!r} is no label of Dormouse's" for name in labels.unknown(service.labels)]
    in_containers = service.container.get("Labels") or {}
    if any(name.startswith(labels.PREFIX) for name in in_containers):
        found.append("labels of its containers do not count: set them under deploy")
    if isinstance(read, labels.Labels) and not read.port:
        found.append(f"no work can be sent to it: {labels.PREFIX}port is not set, and it publishes no port")
    return tuple(found)
