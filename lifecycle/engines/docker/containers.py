"""What the Docker Engine says of a container, read from the JSON of its API."""

import functools
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from signal import Signals
from typing import Any

from lifecycle.engines import labels
from lifecycle.engines.base import Address, Inspection, ListedInstance, Phase
from lifecycle.engines.docker.addresses import Viewpoint, candidates, why_unreachable
from lifecycle.exceptions import LabelError

logger = logging.getLogger(__name__)

#: The longest name that fits into a row. A container with a longer name is ignored.
MAX_NAME = 255
#: The label of a container that a swarm has made, and removes.
SWARM_TASK = "com.docker.swarm.task.id"
NEVER = "0001-01-01T00:00:00Z"
#: What Podman says, and Docker does not.
PODMAN_PHASES = {
    "configured": Phase.CREATED,
    "initialized": Phase.CREATED,
    "stopping": Phase.RUNNING,
    "stopped": Phase.EXITED,
}


def read_list(containers: list[Mapping[str, Any]], scope: str) -> list[ListedInstance]:
    """Return what a list says of each container of the scope.

    One that cannot be read is skipped, and that is logged once.

    Raises TypeError if nothing can be read: that would look as if every container were gone.
    """
    if not isinstance(containers, list):
        raise TypeError(f"a list was expected, not {type(containers).__name__}")
    read = [_listed(container) for container in containers]
    found = [one for one in read if one is not None]
    if containers and not found:
        raise TypeError("no container of the list can be read")
    ours = [one for one in found if labels.is_enabled(one.labels) and labels.is_of_scope(one.labels, scope)]
    return [one for one in ours if len(one.name) <= MAX_NAME]


def near_misses(containers: list[Mapping[str, Any]], scope: str) -> list[str]:
    """Return a sentence for each container of the scope that is nearly labelled as an agent."""
    ours = [one for one in containers if one["Names"] and labels.is_of_scope(one["Labels"] or {}, scope)]
    named = ((_name(one["Names"]), labels.near_miss(one["Labels"] or {})) for one in ours)
    return [f"{name}: {miss}" for name, miss in sorted(named, key=lambda pair: pair[0]) if miss]


def _listed(container: Mapping[str, Any]) -> ListedInstance | None:
    """Return None if the entry cannot be read. A container that is just being removed may have no name."""
    try:
        if not container["Names"]:
            _warn_once(f"The container {container['Id']} has no name, so it is ignored")
            return None
        name = _name(container["Names"])
        return ListedInstance(name, container["Id"], _phase(container["State"]), dict(container["Labels"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _warn_once(f"A container is ignored, because the engine's list says of it what cannot be read ({error!r})")
        return None


@functools.lru_cache(maxsize=1000)
def _warn_once(message: str) -> None:
    logger.warning("%s", message)


def takes_part(name: str, container: Mapping[str, Any], scope: str) -> bool:
    """Return whether the container opted in, is of the scope, and `name` is its name and not a prefix of its id."""
    found = container["Config"]["Labels"] or {}
    return labels.is_enabled(found) and labels.is_of_scope(found, scope) and container["Name"].removeprefix("/") == name


def shared_container(container: Mapping[str, Any]) -> str | None:
    """Return the id of the container whose network it uses (`--network container:...`), or None."""
    mode = str(container["HostConfig"].get("NetworkMode", ""))
    return mode.removeprefix("container:") if mode.startswith("container:") else None


def inspection(
    name: str, container: Mapping[str, Any], viewpoint: Viewpoint, at: Mapping[str, Any] | None = None
) -> Inspection:
    """Return what an inspection says. `at` is the container whose network it uses, if that is another one."""
    state = container["State"]
    read = _labels(name, container)
    if not isinstance(read, LabelError):
        read = _unreachable(name, container, read, at, viewpoint) or read
    phase = _phase(state["Status"])
    addresses: tuple[Address, ...] = ()
    if phase is Phase.RUNNING and not isinstance(read, LabelError) and read.port:
        addresses = candidates(at or container, read.port, viewpoint, read.network)
    return Inspection(
        name=name,
        phase=phase,
        incarnation="" if state["StartedAt"] == NEVER else f"{container['Id']}@{state['StartedAt']}",
        labels=read,
        addresses=addresses,
        asked_from=str(viewpoint),
        exit_code=state["ExitCode"] if phase in (Phase.EXITED, Phase.RESTARTING, Phase.DEAD) else None,
        oom=state["OOMKilled"],
        health=(state.get("Health") or {}).get("Status", ""),
        output_mark=state["FinishedAt"],
        ran_seconds=None if phase in (Phase.RUNNING, Phase.PAUSED) else _ran_seconds(state),
        stop_signal=signal_number(container["Config"].get("StopSignal") or "TERM"),
        warnings=_warnings(container, read),
    )


def output_since(state: Mapping[str, Any], mark: str) -> float | None:
    """Return the time at which the latest run's output begins, in seconds since 1970. None: it was the first run.

    It is the middle between the end of the run before (`mark`, or FinishedAt while the container runs) and StartedAt,
    because the last lines of a run may be stamped after its end, and the first lines before its start.
    """
    before = mark or (state["FinishedAt"] if state["Running"] else state["StartedAt"])
    return None if before == NEVER else (_unix(before) + _unix(state["StartedAt"])) / 2


def _name(names: list[str]) -> str:
    """Return a container's own name. The others belong to links (`/other/alias`)."""
    return min(names, key=lambda name: name.count("/")).removeprefix("/")


def _phase(status: str) -> Phase:
    """Return the phase. Raises ValueError if it is not known."""
    return PODMAN_PHASES.get(status) or Phase(status)


def _labels(name: str, container: Mapping[str, Any]) -> labels.Labels | LabelError:
    config = container["Config"]
    if container["HostConfig"].get("AutoRemove"):
        return LabelError(
            name, labels.ENABLE, "true", "cannot be: run with --rm, it would be removed by its first stop"
        )
    if SWARM_TASK in (config["Labels"] or {}):
        reason = "cannot be: it is a task of a service; use DORMOUSE_ENGINE=swarm, and label the service"
        return LabelError(name, labels.ENABLE, "true", reason)
    exposed = tuple(int(port.split("/")[0]) for port in config.get("ExposedPorts") or {} if port.endswith("/tcp"))
    try:
        return labels.read(name, config["Labels"], exposed=exposed, health_interval=_health_interval(config))
    except LabelError as error:
        return error


def _unreachable(
    name: str,
    container: Mapping[str, Any],
    read: labels.Labels,
    at: Mapping[str, Any] | None,
    viewpoint: Viewpoint,
) -> LabelError | None:
    """Return what makes it impossible to reach the port, which can be known before anything is started."""
    networks = container["NetworkSettings"].get("Networks") or {}
    if read.network and read.network not in networks and not shared_container(container):
        on = ", ".join(sorted(networks)) or "none"
        return LabelError(
            name, f"{labels.PREFIX}network", read.network, f"is no network of the container: it is on {on}"
        )
    if read.port and container["HostConfig"].get("NetworkMode") == "none":
        reason = "cannot be reached, because the container has no network (--network none)"
        return LabelError(name, f"{labels.PREFIX}port", str(read.port), reason)
    if read.port and not read.network and not (shared_container(container) and at is None):
        why_not = why_unreachable(at or container, read.port, viewpoint)
        return LabelError(name, f"{labels.PREFIX}port", str(read.port), why_not) if why_not else None
    return None


def _health_interval(config: Mapping[str, Any]) -> timedelta | None:
    check = config.get("Healthcheck") or {}
    if not check.get("Test") or check["Test"][0] == "NONE":
        return None
    nanoseconds = check.get("Interval")
    return timedelta(microseconds=nanoseconds / 1000) if nanoseconds else labels.DOCKER_HEALTH_INTERVAL


def _warnings(container: Mapping[str, Any], read: labels.Labels | LabelError) -> tuple[str, ...]:
    found = [f"{name!r} is no label of Dormouse's" for name in labels.unknown(container["Config"]["Labels"])]
    policy = container["HostConfig"].get("RestartPolicy", {}).get("Name") or "no"
    if policy != "no":
        found.append(f"its restart policy is {policy}: Docker may start it when Dormouse did not")
    if isinstance(read, labels.Labels) and not read.port:
        found.append(f"no work can be sent to it: {labels.PREFIX}port is not set, and its image exposes no port")
    return tuple(found)


def _ran_seconds(state: Mapping[str, Any]) -> float | None:
    if NEVER in (state["StartedAt"], state["FinishedAt"]):
        return None
    return (unix_nanoseconds(state["FinishedAt"]) - unix_nanoseconds(state["StartedAt"])) / 10**9


def signal_number(value: str) -> int:
    """Return the number of a signal as Docker writes it: `15`, `TERM` or `SIGTERM`; SIGTERM if it is none of those."""
    if value.isdigit():
        return int(value)
    name = "SIG" + value.upper().removeprefix("SIG")
    return Signals[name] if name in Signals.__members__ else Signals.SIGTERM


def unix_nanoseconds(stamp: str) -> int:
    """Return one of Docker's times (`2026-11-26T13:19:38.123456789Z`) in nanoseconds since 1970."""
    seconds, _, fraction = stamp.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(f"{seconds}+00:00").timestamp()) * 10**9 + int(fraction.ljust(9, "0") or 0)


def _unix(stamp: str) -> float:
    """Return one of Docker's times in seconds since 1970. Python reads six of its nine decimals."""
    return datetime.fromisoformat(stamp[:26].rstrip("Z") + "+00:00").timestamp()
