"""The readiness probes: they ask the agent itself whether it is ready.

Docker's proxy accepts a connection to a published port although nothing listens behind it, and closes it within a
millisecond (50 of 50 tries on Docker Engine 20.10). So a connection alone does not show that the agent is ready.
"""

import asyncio
import socket
from collections.abc import Callable

import aiohttp
from yarl import URL

from lifecycle.agent_http import NotDelivered, SendFailed, agent_session, agent_url, failure_reason
from lifecycle.engines.base import Inspection
from lifecycle.engines.labels import Labels

#: The longest time that one attempt may take.
ATTEMPT_SECONDS = 1
#: A connection that stays open for this long, twice in a row, has an agent behind it.
TCP_HOLD_SECONDS = 0.05

#: Ask once. Return None if the instance is ready, else why not, to be read after "was not ready within 30 s: ".
Probe = Callable[[Inspection, Labels], str | None]


class _NoListener(Exception):
    """The agent does not listen on the port, whatever accepted the connection."""


def probe(seen: Inspection, labels: Labels) -> str | None:
    """Ask in the way that the label `dormouse.ready` names."""
    if labels.ready == "running":
        return None
    if labels.ready == "health":
        return None if seen.health == "healthy" else f"its HEALTHCHECK says {seen.health or 'nothing yet'}"
    if seen.address is None:
        return f"port {labels.port} is neither published nor reachable on an address of its own"
    try:
        return _probe_http(seen.address, labels.ready_path) if labels.ready == "http" else _probe_tcp(seen.address)
    except _NoListener as why_not:
        return f"{why_not}; does it listen on port {labels.port}, on all addresses?"


def _probe_http(address: tuple[str, int], path: str | None) -> str | None:
    target = agent_url(address, path or "/")
    try:
        status = asyncio.run(_get_status(target))
    except TimeoutError:
        return f"GET {target} was not answered within {ATTEMPT_SECONDS} s"
    except (NotDelivered, SendFailed) as error:
        why_not = f"GET {target} was not answered ({error})"
        if isinstance(error.__cause__, (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            raise _NoListener(why_not) from error
        return why_not
    if path is None or 200 <= status < 400:
        return None
    return f"GET {target} answered {status}"


async def _get_status(target: str) -> int:
    """Return the status of one answer. The deadline is for the whole request: an agent may send byte by byte."""
    async with (
        asyncio.timeout(ATTEMPT_SECONDS),
        agent_session() as session,
        session.get(URL(target, encoded=True), allow_redirects=False) as response,
    ):
        return response.status


def _probe_tcp(address: tuple[str, int]) -> str | None:
    return _hold_connection(address) or _hold_connection(address)


def _hold_connection(address: tuple[str, int]) -> str | None:
    """Return None if the peer accepts the connection, and then speaks or keeps it open for TCP_HOLD_SECONDS."""
    host, port = address
    try:
        connection = socket.create_connection(address, ATTEMPT_SECONDS / 2)
    except OSError as error:
        raise _NoListener(f"{host}:{port} cannot be connected to ({failure_reason(error)})") from error
    with connection:
        connection.settimeout(TCP_HOLD_SECONDS)
        try:
            was_closed = connection.recv(1) == b""
        except TimeoutError:
            return None
        except OSError as error:
            raise _NoListener(f"{host}:{port} broke the connection off ({failure_reason(error)})") from error
    if was_closed:
        raise _NoListener(f"{host}:{port} closed the connection at once")
    return None
