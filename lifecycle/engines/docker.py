"""Docker Engine, through the low-level API of the docker SDK: one call is one request.

Source: Docker Engine API 1.41, and what was seen of Docker Engine 20.10 (`start` of a missing entry point is HTTP 400,
of a taken port HTTP 500 with one of two texts, of a paused container 409).
"""

import functools
import logging
import math
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from lifecycle.engines import labels
from lifecycle.engines.base import Engine, Inspection, ListedInstance
from lifecycle.exceptions import Cause, EngineUnreachable, LabelError, Missing, StartRejected

logger = logging.getLogger(__name__)

#: The timeout of a question. An inspection waits while a start hangs, and is then asked again.
ASK_SECONDS = 10
#: The timeout of a start, and of a stop in addition to its grace.
ACT_SECONDS = 60

#: The engine's events after which an instance may have changed.
CHANGES = ("create", "start", "die", "pause", "unpause", "rename", "destroy", "update")
#: The names that Docker allows.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
#: The longest name that fits into a row. A container with a longer name is ignored.
MAX_NAME = 255
NEVER = "0001-01-01T00:00:00Z"
FREE_PORT = "stop what holds it, or publish another"
PORT_TAKEN = ("address already in use", "port is already allocated")
#: By exit code of a rejected start: what it means, and what to do about it.
EXIT_CODES = {
    126: ("its command may not be executed", "make it executable in the image"),
    127: ("its command does not exist", "correct the command, or the image"),
}
#: What the engine writes before and after the reason in its messages.
WRAPPING = re.compile(r"driver failed .*? \([0-9a-f]+\): |(failed to create|OCI runtime) .*?(?=exec: )|: unknown$")
ALL_INTERFACES = {"", "0.0.0.0", "::"}  # noqa: S104  # the address of a published port; nothing binds to it here
LOOPBACK = {"127.0.0.1", "::1"}


class DockerEngine(Engine):
    """The Docker Engine that DOCKER_HOST and related variables in `environment` name, by default the local one."""

    name = "docker"

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = dict(environment)
        self._lock = threading.Lock()
        #: Connected clients, by their timeout in seconds.
        self._clients: dict[int, Any] = {}

    def instances(self) -> list[ListedInstance]:
        """Return all containers with the label, by one request."""
        with self._client() as api:
            found = api.containers(all=True, filters={"label": f"{labels.ENABLE}=true"})
            if not isinstance(found, list):  # an empty object would look as if every container were gone
                raise TypeError(f"a list was expected, not {type(found).__name__}")
            return [_listed(container) for container in found if _has_name(container)]

    def inspect(self, name: str) -> Inspection:
        """Return what one request says of the container."""
        if not NAME.fullmatch(name) or len(name) > MAX_NAME:
            raise Missing(name)
        with self._client() as api, _missing(name):
            container = api.inspect_container(name)
            if not _takes_part(name, container):
                raise Missing(name)
            return _inspection(name, container, self._remote_host)

    def start(self, name: str) -> None:
        """Start the container. If it runs already, the engine answers 304 and this does nothing."""
        with self._client(ACT_SECONDS) as api:
            try:
                api.start(name)
            except ImageNotFound as error:
                raise StartRejected(
                    Cause.IMAGE_MISSING, f"its image is gone: {_message(error)}; pull or build it again"
                ) from error
            except NotFound as error:
                raise Missing(name) from error
            except APIError as error:
                raise self._rejection(name, error) from error

    def stop(self, name: str, grace_seconds: float) -> None:
        """Stop the container. If another client is stopping it, the engine waits for that."""
        with self._client(ACT_SECONDS) as api, _missing(name):
            api.stop(name, timeout=math.ceil(grace_seconds))

    def output(self, name: str, lines: int, mark: str = "") -> str:
        """Return the last lines of the latest run. `mark` is when the run before it ended."""
        # StartedAt is not used if a mark is given: the engine sets it after the command has begun, and the whole output
        # of a command that fails at once is older (19 of 20 times).
        if not lines:
            return ""
        with self._client() as api, _missing(name):
            since = _output_since(api.inspect_container(name)["State"], mark)
            after = {} if since is None else {"since": since}
            return cast(bytes, api.logs(name, tail=lines, **after)).decode(errors="replace")

    def watch_changes(self) -> Iterator[str]:
        """Yield names from the engine's event stream, which is open when this returns."""
        with self._client() as api:
            filters = {"type": "container", "label": f"{labels.ENABLE}=true", "event": list(CHANGES)}
            stream = api.events(decode=True, filters=filters)  # from now on no event is missed
        return self._read_names(stream)

    def _read_names(self, stream: Any) -> Iterator[str]:
        with self._client():
            for event in stream:
                attributes = event["Actor"]["Attributes"]
                yield attributes["name"]
                if "oldName" in attributes:
                    yield attributes["oldName"].removeprefix("/")

    def _rejection(self, name: str, error: APIError) -> StartRejected:
        """Return why the engine refused to start the container, and what to do about it."""
        message = WRAPPING.sub("", _message(error))
        if any(text in message for text in PORT_TAKEN):
            return StartRejected(Cause.PORT_CONFLICT, f"a port that it publishes is taken: {message}; {FREE_PORT}")
        if error.status_code == 409 and "paused" in message:
            return StartRejected(Cause.START_REJECTED, f"it is paused; resume it with: docker unpause {name}")
        code = self.inspect(name).exit_code if error.status_code == 400 else None
        if code in EXIT_CODES:
            why, remedy = EXIT_CODES[code]
            message = f"{why}: {message}; {remedy}"
        return StartRejected(Cause.START_REJECTED, message, code)

    @property
    def _remote_host(self) -> str | None:
        """The host of a remote engine, on which containers' ports are published. None: the engine is local."""
        url = urlsplit(self._environment.get("DOCKER_HOST", ""))
        return url.hostname if url.scheme in ("tcp", "http", "https", "ssh") else None

    @contextmanager
    def _client(self, seconds: int = ASK_SECONDS) -> Iterator[Any]:
        """Provide a connected client whose calls take at most `seconds`. Raises EngineUnreachable for its errors."""
        try:
            if seconds not in self._clients:  # without the lock: else threads would wait in turn for a hanging engine
                client = docker.from_env(timeout=seconds, max_pool_size=50, environment=self._environment)
                with self._lock:
                    is_first = self._clients.setdefault(seconds, client.api) is client.api
                if not is_first:
                    client.close()
            yield self._clients[seconds]
        except APIError as error:
            raise EngineUnreachable(f"the Docker Engine answered: {_message(error)}") from error
        except (DockerException, requests.RequestException, OSError) as error:
            raise _unreachable(error) from error
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # null, {}, [], [{}]
            why = f"the Docker Engine gave an answer that has another shape than its API says ({error!r})"
            raise EngineUnreachable(why) from error


@contextmanager
def _missing(name: str) -> Iterator[None]:
    """Raise Missing if the engine answers 404 inside the block."""
    try:
        yield
    except NotFound as error:
        raise Missing(name) from error


def _output_since(state: Mapping[str, Any], mark: str) -> float | None:
    """Return the time at which the latest run's output begins, in seconds since 1970. None: it was the first run.

    It is the middle between the end of the run before (`mark`, or FinishedAt while the container runs) and StartedAt,
    because the last lines of a run may be stamped after its end, and the first lines before its start.
    """
    before = mark or (state["FinishedAt"] if state["Running"] else state["StartedAt"])
    return None if before == NEVER else (_unix(before) + _unix(state["StartedAt"])) / 2


def _message(error: APIError) -> str:
    return str(error.explanation or error)


def _unreachable(error: BaseException) -> EngineUnreachable:
    """Return the operating system's reason, which is deep in the chain of causes, in words that a person can act on."""
    reason: BaseException | None = error
    while reason:
        if isinstance(reason, (requests.Timeout, TimeoutError)):
            return EngineUnreachable("the Docker Engine does not answer in time")
        if isinstance(reason, PermissionError):
            why = "the Docker Engine's socket is closed to this user: add it to the group docker"
            return EngineUnreachable(why, was_asked=False)
        if isinstance(reason, (ConnectionRefusedError, FileNotFoundError)):
            why = f"the Docker Engine cannot be reached ({reason.strerror}): does it run, and is DOCKER_HOST right?"
            return EngineUnreachable(why, was_asked=False)
        reason = reason.__cause__ or reason.__context__
    return EngineUnreachable(f"the connection to the Docker Engine failed: {error}")


def _has_name(container: Mapping[str, Any]) -> bool:
    """Return whether the container has a name that fits into a row. One that is just being removed may have none."""
    if not container["Names"]:
        _warn_of_nameless(str(container["Id"]))
        return False
    return len(_name(container["Names"])) <= MAX_NAME


@functools.cache
def _warn_of_nameless(id: str) -> None:
    logger.warning("The container %s has no name, so it is ignored", id)


def _listed(container: Mapping[str, Any]) -> ListedInstance:
    return ListedInstance(
        name=_name(container["Names"]),
        id=container["Id"],
        running=container["State"] in ("running", "restarting"),
        labels=container["Labels"],
    )


def _name(names: list[str]) -> str:
    """Return a container's own name. The others belong to links (`/other/alias`)."""
    return min(names, key=lambda name: name.count("/")).removeprefix("/")


def _takes_part(name: str, container: Mapping[str, Any]) -> bool:
    """Return whether the container has the label, and `name` is its name and not a prefix of its id."""
    enabled = (container["Config"]["Labels"] or {}).get(labels.ENABLE) == "true"
    return enabled and container["Name"].removeprefix("/") == name


def _inspection(name: str, container: Mapping[str, Any], remote_host: str | None) -> Inspection:
    state = container["State"]
    read = _labels(name, container)
    running = state["Running"] and not state["Paused"]
    port = None if isinstance(read, LabelError) else read.port
    return Inspection(
        name=name,
        running=running,
        incarnation="" if state["StartedAt"] == NEVER else f"{container['Id']}@{state['StartedAt']}",
        labels=read,
        address=_address(container, port, remote_host) if port and running else None,
        exit_code=None if running else state["ExitCode"],
        oom=state["OOMKilled"],
        health=(state.get("Health") or {}).get("Status", ""),
        output_mark=state["FinishedAt"],
        warnings=_warnings(container),
    )


def _labels(name: str, container: Mapping[str, Any]) -> labels.Labels | LabelError:
    config = container["Config"]
    if container["HostConfig"].get("AutoRemove"):
        return LabelError(
            name, labels.ENABLE, "true", "cannot be: run with --rm, it would be removed by its first stop"
        )
    exposed = tuple(int(port.split("/")[0]) for port in config.get("ExposedPorts") or {} if port.endswith("/tcp"))
    try:
        return labels.read(name, config["Labels"], exposed=exposed, health_interval=_health_interval(config))
    except LabelError as error:
        return error


def _health_interval(config: Mapping[str, Any]) -> timedelta | None:
    check = config.get("Healthcheck") or {}
    if not check.get("Test") or check["Test"][0] == "NONE":
        return None
    nanoseconds = check.get("Interval")
    return timedelta(microseconds=nanoseconds / 1000) if nanoseconds else labels.DOCKER_HEALTH_INTERVAL


def _warnings(container: Mapping[str, Any]) -> tuple[str, ...]:
    found = [f"{name!r} is no label of Dormouse's" for name in labels.unknown(container["Config"]["Labels"])]
    policy = container["HostConfig"].get("RestartPolicy", {}).get("Name") or "no"
    if policy != "no":
        found.append(f"its restart policy is {policy}: Docker may start it when Dormouse did not")
    return tuple(found)


def _address(container: Mapping[str, Any], port: int, remote_host: str | None) -> tuple[str, int] | None:
    """Return where `port` of a running container is reached: published, on the host network, or on its own address."""
    here = remote_host or "127.0.0.1"
    if container["HostConfig"].get("NetworkMode") == "host":
        return here, port
    network = container["NetworkSettings"]
    for published in (network.get("Ports") or {}).get(f"{port}/tcp") or []:
        if published["HostIp"] in ALL_INTERFACES | LOOPBACK:
            loopback = published["HostIp"] if published["HostIp"] in LOOPBACK else here
            return remote_host or loopback, int(published["HostPort"])
    addresses = [network.get("IPAddress"), *(one["IPAddress"] for one in (network.get("Networks") or {}).values())]
    return next(((address, port) for address in addresses if address), None)


def _unix(stamp: str) -> float:
    """Return one of Docker's times in seconds since 1970. Python reads six of its nine decimals."""
    return datetime.fromisoformat(stamp[:26].rstrip("Z") + "+00:00").timestamp()
