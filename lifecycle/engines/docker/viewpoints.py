"""Finding out from where containers are reached: through which connection, and on which networks Dormouse itself is."""

import time
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from docker.errors import NotFound

from lifecycle.engines.docker import containers
from lifecycle.engines.docker.addresses import Viewpoint, engine_host, is_on_host_network, networks_of

#: Dormouse's own container may be connected to another network while it runs. It is asked for its networks this often.
VIEWPOINT_SECONDS = 10


class Viewpoints:
    """The viewpoint of each connection. Any thread may call it."""

    def __init__(self, own_id: str | None, network: str) -> None:
        """Set up. `own_id` is the container in which Dormouse runs, `network` the default network."""
        self._own_id = own_id
        self._network = network
        #: By connection, with the time until which it is believed.
        self._found: WeakKeyDictionary[Any, tuple[Viewpoint, float]] = WeakKeyDictionary()

    def of(self, api: Any) -> Viewpoint:
        """Return from where containers are reached through this connection. The engine is asked for it now and then."""
        found, until = self._found.get(api, (Viewpoint(), 0.0))
        if time.monotonic() < until:
            return found
        own = _own_networks(api, self._own_id) if self._own_id else None
        found = Viewpoint(engine_host(api), own, self._network, is_in_container=self._own_id is not None)
        self._found[api] = found, time.monotonic() + VIEWPOINT_SECONDS
        return found


def _own_networks(api: Any, id: str) -> Mapping[str, str] | None:
    """Return the networks of Dormouse's container. None: it is as on the machine, or unknown to this engine."""
    try:
        own = api.inspect_container(id)
    except NotFound:
        return None
    shared = containers.shared_container(own)
    if shared:
        return _own_networks(api, shared)
    return None if is_on_host_network(own) else networks_of(own)
