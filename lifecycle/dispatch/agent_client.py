"""The HTTP client of dispatches: connections to agents, and how they fail.

Between a connection and the first byte of the work stands the look at the instance (`before_sending`). So work is sent
only to the incarnation that was looked at, and what was not sent may be delivered again.
"""

import select
import socket
from collections.abc import AsyncIterable, Awaitable, Callable
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any
from weakref import WeakSet

import aiohttp
from yarl import URL

from lifecycle.agent_http import NotDelivered, SendFailed, agent_session

#: Called with whether the connection has been used before.
BeforeSending = Callable[[bool], Awaitable[None]]

#: For how long a connection is kept after an answer. An agent may close one that is idle for longer at any moment.
KEEP_SECONDS = 1
#: When an agent's machine says nothing for so long, its kernel is asked, so often, with such pauses. A machine that is
#: lost closes no connection: so work there breaks off after 20 s, however long it may take.
SILENT_SECONDS, ASKED_TIMES, ASK_PAUSE_SECONDS = 5, 3, 5
#: The option of a socket that acknowledges at once. None: the system has none. Source: tcp(7).
QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
#: The largest message of a WebSocket. A larger one ends it with the code 1009.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
#: How long an agent may take to close a WebSocket after Dormouse has.
CLOSE_SECONDS = 5

#: What is called when there is a connection and before anything is sent on it.
_before_sending: ContextVar[BeforeSending] = ContextVar("before_sending")


class HandshakeRefused(Exception):
    """The agent answers to a WebSocket's handshake with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it answered {status}")
        self.status = status


class AgentClient:
    """Connections to agents, for one event loop."""

    def __init__(self) -> None:
        self._session = agent_session(_Connector(limit=0, keepalive_timeout=KEEP_SECONDS))

    async def send(
        self,
        method: str,
        url: str,
        headers: list[tuple[str, str]],
        body: bytes | AsyncIterable[bytes] | None,
        before_sending: BeforeSending,
    ) -> aiohttp.ClientResponse:
        """Send a request, and return the answer when its head has come.

        `before_sending` is awaited when there is a connection, which is closed if it raises.

        Raises NotDelivered if there is no connection or the agent has closed it, and SendFailed after that.
        """
        _before_sending.set(before_sending)
        target = URL(url, encoded=True)
        answer = await self._session.request(method, target, headers=headers, data=body, allow_redirects=False)
        _acknowledge_head(answer)
        return answer

    async def open_web_socket(
        self, url: str, headers: list[tuple[str, str]], protocols: list[str], before_sending: BeforeSending
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket, and return it when the agent has accepted it.

        Raises the same errors as `send`, and HandshakeRefused if the agent answers with another status.
        """
        _before_sending.set(before_sending)
        target, timeout = URL(url, encoded=True), aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS)
        try:
            return await self._session.ws_connect(
                target, headers=headers, protocols=protocols, timeout=timeout, max_msg_size=MAX_MESSAGE_BYTES
            )
        except aiohttp.WSServerHandshakeError as error:
            if error.status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise SendFailed(f"its handshake is wrong: {error.message}") from error
            raise HandshakeRefused(error.status) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


class _Connector(aiohttp.TCPConnector):
    """aiohttp's connections, with a look at the instance and at the connection before each use."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[Any] = WeakSet()

    async def connect(self, req: aiohttp.ClientRequest, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:  # noqa: ASYNC109  # aiohttp's name
        """Return a connection to which nothing has happened since the instance was looked at."""
        connection = await super().connect(req, traces, timeout)
        is_kept = connection.protocol in self._used
        self._used.add(connection.protocol)
        if not is_kept and connection.transport is not None:
            _notice_loss(connection.transport.get_extra_info("socket"))
        try:
            await _before_sending.get()(is_kept)
            if connection.transport is None or _is_readable(connection.transport):
                raise NotDelivered("it closed the connection before the work was sent")
        except BaseException:
            connection.close()
            raise
        return connection


def _notice_loss(connection: Any) -> None:
    """Make the kernel end a connection whose other machine is lost."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, ASKED_TIMES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ASK_PAUSE_SECONDS)


def _acknowledge_head(answer: aiohttp.ClientResponse) -> None:
    """Let the kernel acknowledge the head at once if the body is still to come.

    An agent that writes head and body apart may send the body only then (Nagle's algorithm), and on a connection that
    is in use for longer, Linux waits 40 ms with it. docs/decisions/0079-acknowledged-heads.md
    """
    transport = answer.connection.transport if answer.connection is not None else None
    if transport is not None and QUICK_ACK is not None:
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)


def _is_readable(transport: Any) -> bool:
    """Return whether the agent has closed the connection, or sent bytes that answer nothing."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return transport.is_closing() or bool(poll.poll(0))
