"""What daphne's WebSockets lack: backpressure in both directions, close codes and reasons, and time for a wake.

daphne puts every message of a caller into a queue without end, and writes every message of the application at once. It
closes a handshake after 5 s, which a wake may exceed, and a message above 1 MiB. It sends no reason, no empty message,
and of the close codes only those that an application may use.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import daphne.server
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

from lifecycle.dispatch.agent_client import MAX_MESSAGE_BYTES

#: What waits for the application before the caller is paused.
WAITING_BYTES = 64 * 1024
#: RFC 6455, section 5.5: a close frame has at most 125 bytes, two of them the code.
MAX_REASON_BYTES = 123


class StreamedWebSocket(WebSocketProtocol):  # type: ignore[misc]  # daphne is not typed
    """daphne's protocol of one WebSocket, which is paused while its application is busy."""

    last_ping: float

    def onConnect(self, request: Any) -> Any:  # noqa: N802  # autobahn's names
        """Begin without a producer: the transport still has the HTTP channel that it came from."""
        self._waiting_bytes = 0
        self._is_paused = False
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        return super().onConnect(request)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        """Give the application a message, and pause the caller if enough waits."""
        super().onMessage(payload, isBinary)
        self._waiting_bytes += len(payload)
        if self._waiting_bytes >= WAITING_BYTES and not self._is_paused:
            self._is_paused = True
            self.transport.pauseProducing()

    def note_taken(self, message: dict[str, Any]) -> None:
        """Let the caller go on when the application has taken what waited."""
        self._waiting_bytes -= len(message.get("bytes") or (message.get("text") or "").encode())
        if self._is_paused and self._waiting_bytes < WAITING_BYTES:
            self._is_paused = False
            self.transport.resumeProducing()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: N802, N803
        """Tell the application that the caller has closed, with code and reason."""
        self.has_room.set()
        closed = {"type": "websocket.disconnect", "code": code or 1005, "reason": reason or ""}
        if hasattr(self, "application_queue"):
            self.application_queue.put_nowait(closed)
        super().onClose(wasClean, code, reason)

    def handle_reply(self, message: dict[str, Any]) -> None:
        """Send a message of the application, or close with its code and reason."""
        if message["type"] == "websocket.send":
            data = message.get("bytes")
            self.sendMessage((message.get("text") or "").encode() if data is None else data, data is not None)
        elif message["type"] == "websocket.close" and self.state == self.STATE_OPEN:
            reason = (message.get("reason") or "").encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
            self.sendCloseFrame(code=message.get("code", 1000), reasonUtf8=reason)
        else:
            super().handle_reply(message)

    def check_timeouts(self) -> None:
        """Send pings. A wake takes as long as it takes, and so does the work."""
        if self.state == self.STATE_OPEN and time.time() - self.last_ping > self.server.ping_interval:
            self._sendAutoPing()
            self.last_ping = time.time()

    def pauseProducing(self) -> None:  # noqa: N802
        """Make `send` wait, because the socket is full."""
        self.has_room.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        """Let `send` go on, because the socket has room."""
        self.has_room.set()

    stopProducing = resumeProducing  # noqa: N815


class StreamedWebSocketFactory(WebSocketFactory):  # type: ignore[misc]
    """daphne's factory of WebSockets, with limits of ours."""

    protocol = StreamedWebSocket

    def setProtocolOptions(self, **options: Any) -> None:  # noqa: N802
        """Set daphne's options, but no time limit, larger messages, and a close code for what is wrong."""
        ours = {"openHandshakeTimeout": 0, "autoPingTimeout": 0, "failByDrop": False}
        largest = {"maxMessagePayloadSize": MAX_MESSAGE_BYTES, "maxFramePayloadSize": MAX_MESSAGE_BYTES}
        super().setProtocolOptions(**options | ours | largest)


class WebSocketBackpressure:
    """ASGI middleware whose `send` waits while the caller's socket is full, if the server is daphne."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Call the application with a `receive` and a `send` of our own."""
        is_daphnes = isinstance(send, functools.partial) and getattr(send.func, "__func__", None) is Server.handle_reply
        if not is_daphnes:
            await self.app(scope, receive, send)
            return
        protocol = send.args[0]

        async def receive_and_note() -> dict[str, Any]:
            message: dict[str, Any] = await receive()
            protocol.note_taken(message)
            return message

        async def send_with_room(message: dict[str, Any]) -> None:
            if message["type"] == "websocket.send":
                await protocol.has_room.wait()
            await send(message)

        await self.app(scope, receive_and_note, send_with_room)


def stream_web_sockets() -> None:
    """Make daphne use StreamedWebSocketFactory."""
    daphne.server.WebSocketFactory = StreamedWebSocketFactory
