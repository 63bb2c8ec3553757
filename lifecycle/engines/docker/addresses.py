"""Candidate addresses of a container's port. The readiness probe finds the right one.

They follow from the connection that is really used (DOCKER_HOST or the docker context), from the container's networks,
and from whether Dormouse is itself a container of this engine.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lifecycle.engines.base import Address

ALL_INTERFACES = {"", "0.0.0.0", "::"}  # noqa: S104  # the address of a published port; nothing binds to it here
LOOPBACK = {"127.0.0.1", "::1"}
#: Files that Docker and Podman make in each container.
CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
MOUNTS = Path("/proc/self/mountinfo")
#: What rootless Podman uses instead of a network, and the network of the machine.
WITHOUT_NETWORKS = {"host", "pasta", "slirp4netns"}
#: The engine's file that it mounts over a container's /etc/hostname. Its path holds the container's id.
OWN_HOSTNAME = re.compile(r" \S*/([0-9a-f]{64})/\S* /etc/hostname ")


@dataclass(frozen=True)
class Viewpoint:
    """The place from which containers are reached."""

    #: The host of the engine's connection. None: it is this machine's engine.
    engine_host: str | None = None
    #: The networks of Dormouse's own container, with their gateways. None: it is no container of this engine.
    own_networks: Mapping[str, str] | None = None
    #: The network to use of containers that are on it and have no label for that. Empty: none.
    default_network: str = ""
    #: Whether Dormouse runs in a container, although perhaps not in one of this engine.
    is_in_container: bool = False

    def __str__(self) -> str:
        """Return from where an agent was asked, to be read after "asked". Empty: from this machine."""
        if self.own_networks is not None:
            return f"from Dormouse's own container, which is on {_names(self.own_networks)}"
        return "from a container that this engine does not have" if self.is_in_container else ""


def engine_host(api: Any) -> str | None:
    """Return the host that a connected client of the SDK talks to. None: a socket of this machine."""
    ssh_host = getattr(getattr(api, "_custom_adapter", None), "ssh_params", {}).get("hostname")
    if ssh_host:
        return str(ssh_host)
    url = urlsplit(api.base_url)
    return url.hostname if url.scheme in ("http", "https") else None


def own_id(environment: Mapping[str, str] = os.environ, mounts: Path = MOUNTS) -> str | None:
    """Return the id of the container in which this process runs, or None.

    Without the engine's mount it is the host name, which is the id's beginning unless the container was given another.
    """
    if not any(mark.exists() for mark in CONTAINER_MARKS):
        return None
    found = OWN_HOSTNAME.search(mounts.read_text()) if mounts.exists() else None
    return found[1] if found else environment.get("HOSTNAME") or socket.gethostname()


def networks_of(container: Mapping[str, Any]) -> dict[str, str]:
    """Return the networks of Dormouse's own container by name, with their gateways."""
    return {name: one["Gateway"] for name, one in container["NetworkSettings"]["Networks"].items()}


def is_on_host_network(container: Mapping[str, Any]) -> bool:
    """Return whether the container uses the network of the machine (`--network host`)."""
    return bool(container["HostConfig"].get("NetworkMode") == "host")


def why_unreachable(container: Mapping[str, Any], port: int, viewpoint: Viewpoint) -> str | None:
    """Return why the port cannot be reached, wherever it is asked. None: it can, or that is not known."""
    own = viewpoint.own_networks
    networks = container["NetworkSettings"].get("Networks") or {}
    if not networks and container["HostConfig"].get("NetworkMode") not in WITHOUT_NETWORKS:
        return "cannot be reached, because the container is on no network: use docker network connect NETWORK NAME"
    if own is None or set(networks) & set(own) or _is_published_beyond_loopback(container, port):
        return None
    return (
        f"cannot be reached from Dormouse's own container: it is on {_names(networks)}, Dormouse is on {_names(own)}, "
        "and the port is not published on an address that containers can reach. Connect both to one network"
    )


def _is_published_beyond_loopback(container: Mapping[str, Any], port: int) -> bool:
    host = container["HostConfig"]
    bindings = (host.get("PortBindings") or {}).get(f"{port}/tcp") or []
    return bool(host.get("PublishAllPorts")) or any(one.get("HostIp") not in LOOPBACK for one in bindings)


def _names(networks: Mapping[str, Any]) -> str:
    return ", ".join(sorted(networks)) or "no network"


def candidates(
    container: Mapping[str, Any], port: int, viewpoint: Viewpoint, network: str | None
) -> tuple[Address, ...]:
    """Return where `port` of a running container may be reached, the likeliest first.

    `network` is the name of the one network to use, as the label `dormouse.network` says. None: the default network if
    the container is on it, else any of its networks.
    """
    own = viewpoint.own_networks
    networks = container["NetworkSettings"].get("Networks") or {}
    if not network and viewpoint.default_network in networks:
        network = viewpoint.default_network
    if network:
        return _on(networks, [network], port)
    if own is not None:
        shared = _on(networks, [name for name in networks if name in own], port)
        numbers = [number for host, number in _published(container, port) if host not in LOOPBACK]
        published = [(gateway, number) for gateway in own.values() if gateway for number in numbers]
        return tuple(dict.fromkeys([*shared, *published]))
    if is_on_host_network(container):
        return ((viewpoint.engine_host or "127.0.0.1", port),)
    published = [_from_outside(host, number, viewpoint.engine_host) for host, number in _published(container, port)]
    return tuple(dict.fromkeys(published)) or _on(networks, list(networks), port)


def _published(container: Mapping[str, Any], port: int) -> list[Address]:
    """Return the host's addresses to which the port is published."""
    bindings = (container["NetworkSettings"].get("Ports") or {}).get(f"{port}/tcp") or []
    return [(one["HostIp"], int(one["HostPort"])) for one in bindings]


def _from_outside(host: str, port: int, engine_host: str | None) -> Address:
    """Return the address of a published port. The engine's loopback is not ours if the engine is elsewhere."""
    if host in ALL_INTERFACES or (engine_host and host in LOOPBACK):
        return engine_host or "127.0.0.1", port
    return host, port


def _on(networks: Mapping[str, Any], names: list[str], port: int) -> tuple[Address, ...]:
    """Return the container's own addresses on the named networks."""
    found = [networks[name] for name in names if name in networks]
    addresses = [one["IPAddress"] or one.get("GlobalIPv6Address", "") for one in found]
    return tuple((address, port) for address in addresses if address)
