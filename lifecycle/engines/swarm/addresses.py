"""The addresses of a task: at its node, or on a network that Dormouse shares with it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from lifecycle.engines.base import Address
from lifecycle.engines.docker.addresses import Viewpoint

#: What a node says that knows no address of its own.
NO_ADDRESS = {"", "0.0.0.0", "::"}  # noqa: S104  # compared with; nothing binds to it
#: The network of the routing mesh. It cannot be used to ask one task.
MESH = "ingress"


def candidates(
    task: Mapping[str, Any], node: Mapping[str, Any], port: int, viewpoint: Viewpoint, network: str | None
) -> tuple[Address, ...]:
    """Return where `port` of a running task may be reached, the likeliest first.

    `network` is the name of the one network to use, as the label `dormouse.network` says. None: the default network if
    the task is on it, else the networks that Dormouse shares with it, and where its node publishes the port.
    """
    own = _own_addresses(task)
    if not network and viewpoint.default_network in own:
        network = viewpoint.default_network
    if network:
        return tuple((address, port) for address in own.get(network, ()))
    shared = [name for name in own if name in (viewpoint.own_networks or ())]
    found = [(address, port) for name in shared for address in own[name]]
    return tuple(dict.fromkeys([*found, *_published(task, node, port, viewpoint)]))


def is_published_at_the_node(spec: Mapping[str, Any], port: int) -> bool:
    """Return whether a service publishes the port at the node of each task (`mode=host`)."""
    return any(one["TargetPort"] == port and one.get("PublishMode") == "host" for one in published_ports(spec))


def published_ports(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a service says of each TCP port that it publishes."""
    ports = (spec.get("EndpointSpec") or {}).get("Ports") or []
    return [one for one in ports if one.get("Protocol", "tcp") == "tcp"]


def _own_addresses(task: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return a task's own addresses, by the name of the network."""
    attached = task.get("NetworksAttachments") or []
    found = {one["Network"]["Spec"]["Name"]: one.get("Addresses") or [] for one in attached}
    return {name: [one.partition("/")[0] for one in addresses] for name, addresses in found.items() if name != MESH}


def _published(task: Mapping[str, Any], node: Mapping[str, Any], port: int, viewpoint: Viewpoint) -> list[Address]:
    ports = (task["Status"].get("PortStatus") or {}).get("Ports") or []
    numbers = [one["PublishedPort"] for one in ports if one["TargetPort"] == port and one["Protocol"] == "tcp"]
    host = _address_of(node) or viewpoint.engine_host or "127.0.0.1"
    return [(host, number) for number in numbers if number]


def _address_of(node: Mapping[str, Any]) -> str:
    """Return a node's address as the swarm knows it, or an empty text."""
    address = str((node.get("Status") or {}).get("Addr", ""))
    if address in NO_ADDRESS:
        address = urlsplit(f"//{(node.get('ManagerStatus') or {}).get('Addr', '')}").hostname or ""
    return "" if address in NO_ADDRESS else address
