"""Docker Engine, through the docker SDK's low-level API: one call is one request.

Source: Docker Engine API 1.41, and what was seen of it (`start` of a missing entry point is HTTP 400, of a taken port
HTTP 500 with one of two texts, of a paused container 409).
"""

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

#: For a question; an inspection waits while a start hangs, and asks again.
ASK_SECONDS = 10
#: For a start or, beyond its grace, a stop.
ACT_SECONDS = 60

#: Events after which an instance may not be what it was.
CHANGES = ("create", "start", "die", "pause", "unpause", "rename", "destroy", "update")
#: What Docker allows as a name.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
#: What a row has room for. Whoever gave a container a longer one did not mean it for people.
MAX_NAME = 255
NEVER = "0001-01-01T00:00:00Z"
FREE_PORT = "stop what holds it, or publish another"
PORT_TAKEN = ("address already in use", "port is already allocated")
#: By exit code of a refused start: what it means, and what to do.
EXIT_CODES = {
    126: ("its command may not be executed", "make it executable in the image"),
    127: ("its command does not exist", "correct the command, or the image"),
}
#: What goes before and after the reason in the engine's own words.
WRAPPING = re.compile(r"driver failed .*? \([0-9a-f]+\): |(failed to create|OCI runtime) .*?(?=exec: )|: unknown$")
ALL_INTERFACES = {"", "0.0.0.0", "::"}  # noqa: S104  # what a port is published on, not what we bind
LOOPBACK = {"127.0.0.1", "::1"}


class DockerEngine(Engine):
    """The engine that DOCKER_HOST and its companions in `environment` name, by default the local one."""

    name = "docker"

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = dict(environment)
        self._connecting = threading.Lock()
        self._clients: dict[int, Any] = {}

    def instances(self) -> list[ListedInstance]:
        with self._client() as api:
            found = api.containers(all=True, filters={"label": f"{labels.ENABLE}=true"})
        return [
            ListedInstance(
                name=_name(container["Names"]),
                id=container["Id"],
                running=container["State"] in ("running", "restarting"),
                labels=container["Labels"],
            )
            for container in found
            if len(_name(container["Names"])) <= MAX_NAME
        ]

    def inspect(self, name: str) -> Inspection:
        if not NAME.fullmatch(name) or len(name) > MAX_NAME:
            raise Missing(name)
        with self._client() as api, _missing(name):
            container = api.inspect_container(name)
        if not _takes_part(name, container):
            raise Missing(name)
        return _inspection(name, container, self._remote_host)

    def start(self, name: str) -> None:
        with self._client(ACT_SECONDS) as api:
            try:
                api.start(name)
            except ImageNotFound as error:
                raise StartRejected(
                    Cause.IMAGE_MISSING, f"its image is gone: {_said(error)}; pull or build it again"
                ) from error
            except NotFound as error:
                raise Missing(name) from error
            except APIError as error:
                raise self._rejection(name, error) from error

    def stop(self, name: str, grace_seconds: float) -> None:
        with self._client(ACT_SECONDS) as api, _missing(name):
            api.stop(name, timeout=math.ceil(grace_seconds))

    def output(self, name: str, lines: int, mark: str = "") -> str:
        # Not since StartedAt, where it can be helped: that is set after the command has begun, and of a command that
        # fails at once the whole output is older (19 of 20 times).
        if not lines:
            return ""
        with self._client() as api, _missing(name):
            since = _begin(api.inspect_container(name)["State"], mark)
            after = {} if since is None else {"since": since}
            return cast(bytes, api.logs(name, tail=lines, **after)).decode(errors="replace")

    def watch_changes(self) -> Iterator[str]:
        with self._client() as api:
            filters = {"type": "container", "label": f"{labels.ENABLE}=true", "event": list(CHANGES)}
            stream = api.events(decode=True, filters=filters)  # from here on nothing is missed
        return self._names(stream)

    def _names(self, stream: Any) -> Iterator[str]:
        with self._client():
            for event in stream:
                attributes = event["Actor"]["Attributes"]
                yield attributes["name"]
                if "oldName" in attributes:
                    yield attributes["oldName"].removeprefix("/")

    def _rejection(self, name: str, error: APIError) -> StartRejected:
        said = WRAPPING.sub("", _said(error))
        if any(text in said for text in PORT_TAKEN):
            return StartRejected(Cause.PORT_CONFLICT, f"a port that it publishes is taken: {said}; {FREE_PORT}")
        if error.status_code == 409 and "paused" in said:
            return StartRejected(Cause.START_REJECTED, f"it is paused; resume it with: docker unpause {name}")
        code = self.inspect(name).exit_code if error.status_code == 400 else None
        if code in EXIT_CODES:
            why, remedy = EXIT_CODES[code]
            said = f"{why}: {said}; {remedy}"
        return StartRejected(Cause.START_REJECTED, said, code)

    @property
    def _remote_host(self) -> str | None:
        """The host of a remote engine, where its published ports are."""
        url = urlsplit(self._environment.get("DOCKER_HOST", ""))
        return url.hostname if url.scheme in ("tcp", "http", "https", "ssh") else None

    @contextmanager
    def _client(self, seconds: int = ASK_SECONDS) -> Iterator[Any]:
        """A connected client whose calls take at most `seconds`."""
        try:
            if seconds not in self._clients:  # not under a lock: an engine that hangs would be waited for in turn
                client = docker.from_env(timeout=seconds, max_pool_size=50, environment=self._environment)
                with self._connecting:
                    is_first = self._clients.setdefault(seconds, client.api) is client.api
                if not is_first:
                    client.close()
            yield self._clients[seconds]
        except APIError as error:
            raise EngineUnreachable(f"the Docker Engine answered: {_said(error)}") from error
        except (DockerException, requests.RequestException, OSError) as error:
            raise _unreachable(error) from error


@contextmanager
def _missing(name: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise Missing(name) from error


def _begin(state: Mapping[str, Any], mark: str) -> float | None:
    """Where the latest run's output begins; None: there was no run before it.

    Between the end of the run before it (`mark`, or FinishedAt as long as it runs) and StartedAt, at half time: the
    last lines of that run may be stamped after its end, and the first of this one before its start.
    """
    before = mark or (state["FinishedAt"] if state["Running"] else state["StartedAt"])
    return None if before == NEVER else (_unix(before) + _unix(state["StartedAt"])) / 2


def _said(error: APIError) -> str:
    return str(error.explanation or error)


def _unreachable(error: BaseException) -> EngineUnreachable:
    """In words a person can act on: the operating system's reason lies deep in the chain."""
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


def _name(names: list[str]) -> str:
    """Of a container's names the one that is not a link's (`/other/alias`)."""
    return min(names, key=lambda name: name.count("/")).removeprefix("/")


def _takes_part(name: str, container: Mapping[str, Any]) -> bool:
    """By its name, not by a prefix of its id; and by the label."""
    enabled = (container["Config"]["Labels"] or {}).get(labels.ENABLE) == "true"
    return enabled and container["Name"].removeprefix("/") == name


def _inspection(name: str, container: Mapping[str, Any], remote_host: str | None) -> Inspection:
    state = container["State"]
    read = _labels(name, container)
    running = state["Running"] and not state["Paused"]
    port = None if isinstance(read, LabelError) else read.port
    return Inspection(
        name=name,
        id=container["Id"],
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
    """Where `port` of a running container is reached: published, on the host's network, or on its own address."""
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
    """Docker's nanosecond stamps, as far as Python reads them."""
    return datetime.fromisoformat(stamp[:26].rstrip("Z") + "+00:00").timestamp()
