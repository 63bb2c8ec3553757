"""The probes: whether an instance is ready, asked of the agent itself.

An attempt lasts at most ATTEMPT_SECONDS, and the next begins a `pause` after a failed one. Each failed one also
inspects, so that an exit is seen at once. Source of the manners of Docker's proxy: it accepts a connection to a
published port with nothing behind it, and closes it within a millisecond.
"""

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable

import httpx

from lifecycle.agent_http import agent_client
from lifecycle.clock import Clock
from lifecycle.engines.base import Engine, Sighting
from lifecycle.engines.labels import Labels
from lifecycle.exceptions import Cause, EngineUnreachable, LabelError, Missing, StartFailed

logger = logging.getLogger(__name__)

ATTEMPT_SECONDS = 1
#: Between two attempts: at first, and after LONG_SECONDS. Ready is seen late by up to a pause and an attempt.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.02, 0.04
LONG_SECONDS = 30
#: A connection that lasts so long, twice running, has somebody behind it.
TCP_HOLD_SECONDS = 0.05

#: Asks once: None where it is ready, else why not, after "was not ready within 30 s: ".
Probe = Callable[[Sighting, Labels], str | None]


class _NobodyThere(Exception):
    """No agent has the port, whoever took the connection: probably it listens elsewhere, or on loopback alone."""


def probe(seen: Sighting, labels: Labels) -> str | None:
    """Asks as `dormouse.ready` says."""
    if labels.ready == "running":
        return None
    if labels.ready == "health":
        return None if seen.health == "healthy" else f"its HEALTHCHECK says {seen.health or 'nothing yet'}"
    if seen.address is None:
        return f"port {labels.port} is neither published nor reachable on an address of its own"
    try:
        return _http(seen.address, labels.ready_path) if labels.ready == "http" else _tcp(seen.address)
    except _NobodyThere as why_not:
        return f"{why_not}; does it listen on port {labels.port}, on all addresses?"


def wait_until_ready(engine: Engine, name: str, clock: Clock, ask: Probe = probe, mark: str = "") -> Sighting:
    """Returns what was seen when it was ready, within its start-timeout from now.

    Raises StartFailed: it ended, or was not ready in time; and LabelError, Missing, EngineUnreachable.
    """
    began = clock.monotonic()
    while True:
        seen = engine.inspect(name)
        labels = seen.settings()
        if not seen.running:
            raise ended(engine, seen, mark)
        why_not = _asked(ask, seen, labels)
        if why_not is None:
            return seen
        timeout = labels.start_timeout.total_seconds()
        waited = clock.monotonic() - began
        if waited >= timeout:
            raise StartFailed(
                name,
                Cause.NOT_READY,
                f"was not ready within {timeout:g} s: {why_not}",
                log_tail=output(engine, seen, mark),
            )
        clock.sleep(pause(waited))


def _asked(ask: Probe, seen: Sighting, labels: Labels) -> str | None:
    """What nobody foresaw is a failed attempt, too: a run that cannot be probed must end."""
    try:
        return ask(seen, labels)
    except Exception as error:
        logger.exception("%s: the probe failed", seen.name)
        return f"the probe failed ({type(error).__name__}: {error})"


def pause(waited: float) -> float:
    """In seconds; longer for one that has been waited for so long, for an attempt costs some 3 ms of a processor."""
    return FIRST_PAUSE_SECONDS + (LAST_PAUSE_SECONDS - FIRST_PAUSE_SECONDS) * min(1, waited / LONG_SECONDS)


def ended(engine: Engine, seen: Sighting, mark: str = "") -> StartFailed:
    """Why a run that is over never was ready."""
    code = seen.exit_code
    if seen.oom:
        error = "ran out of memory before it was ready: give it more, or raise its limit"
        return StartFailed(seen.name, Cause.OOM, error, code, output(engine, seen, mark))
    error = f"exited{_with_code(code)} before it was ready"
    return StartFailed(seen.name, Cause.EXITED, error, code, output(engine, seen, mark))


def _with_code(code: int | None) -> str:
    """Names the signal that ended it, as shells and engines count: 128 and its number."""
    if code is None:
        return ""
    names = {128 + number: f" ({number.name})" for number in signal.Signals}
    return f" with code {code}{names.get(code, '')}"


def missing(error: Missing) -> StartFailed:
    """Of a known instance that is gone."""
    why = "the engine does not have it any more: create it again under this name, with the label dormouse.enable=true"
    return StartFailed(error.instance, Cause.MISSING, why)


def output(engine: Engine, seen: Sighting, mark: str = "") -> str:
    """The lines that its `log-tail` asks for. A failure is told without them rather than not at all."""
    if isinstance(seen.labels, LabelError):
        return ""
    try:
        return engine.output(seen.name, seen.labels.log_tail, mark)
    except (Missing, EngineUnreachable):
        return ""


def ms(seconds: float) -> int:
    return int(seconds * 1000)


def url(address: tuple[str, int], path: str) -> str:
    """Of the agent, for an address that may be IPv6."""
    host, port = address
    return f"http://[{host}]:{port}{path}" if ":" in host else f"http://{host}:{port}{path}"


def _http(address: tuple[str, int], path: str | None) -> str | None:
    target = url(address, path or "/")
    try:
        status = asyncio.run(_status(target))
    except TimeoutError:
        return f"GET {target} was not answered within {ATTEMPT_SECONDS} s"
    except httpx.HTTPError as error:
        if isinstance(error, httpx.NetworkError):
            raise _NobodyThere(f"GET {target} was not answered ({reason(error)})") from error
        if _is_silent_close(error):
            raise _NobodyThere(f"GET {target} was not answered (the connection was closed)") from error
        return f"GET {target} was not answered ({reason(error)})"
    if path is None or 200 <= status < 400:
        return None
    return f"GET {target} answered {status}"


def _is_silent_close(error: httpx.HTTPError) -> bool:
    """Before a byte of an answer; what was answered but is no HTTP has the same class."""
    return isinstance(error, httpx.RemoteProtocolError) and str(error).startswith("Server disconnected")


async def _status(target: str) -> int:
    """The status of one answer; the deadline is for the whole of it, for an agent may trickle."""
    async with (
        asyncio.timeout(ATTEMPT_SECONDS),
        agent_client() as client,
        client.stream("GET", target) as response,
    ):
        return response.status_code


def reason(error: BaseException) -> str:
    """The operating system's word for it, which httpx keeps deep in the chain."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.errno and cause.errno in errno.errorcode:
            return os.strerror(cause.errno).lower()
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


def _tcp(address: tuple[str, int]) -> str | None:
    return _held_connection(address) or _held_connection(address)


def _held_connection(address: tuple[str, int]) -> str | None:
    """None where a connection was made, and the peer spoke or at least did not close it for a while."""
    host, port = address
    try:
        connection = socket.create_connection(address, ATTEMPT_SECONDS / 2)
    except OSError as error:
        raise _NobodyThere(f"{host}:{port} cannot be connected to ({reason(error)})") from error
    with connection:
        connection.settimeout(TCP_HOLD_SECONDS)
        try:
            closed = connection.recv(1) == b""
        except TimeoutError:
            return None
        except OSError as error:
            raise _NobodyThere(f"{host}:{port} broke the connection off ({reason(error)})") from error
    if closed:
        raise _NobodyThere(f"{host}:{port} closed the connection at once")
    return None
