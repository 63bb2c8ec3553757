"""A WebSocket under uvicorn.

uvicorn alone says of a caller that has disappeared that it has closed, writes a traceback for each application that is
cancelled, and may lose the close frame of a message that is too large.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from config.serving import limits

logger = logging.getLogger(__name__)

#: RFC 6455, section 7.4.1: the connection ended without a close frame.
BROKEN = 1006


class WebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol of one WebSocket."""

    _is_broken = False

    def data_received(self, data: bytes) -> None:
        """Take what has come, or throw it away after a frame that was wrong."""
        if not self._is_broken:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """Close with the code that the parser has found, and read on for a moment.

        A socket that is closed with unread data resets the connection, and the close frame may be lost.
        """
        self._is_broken = True
        sent = self.conn.close_sent
        code, reason = (sent.code, sent.reason) if sent else (BROKEN, "")
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.transport.write_eof()
        self.close_timer = self.loop.call_later(limits.LINGER_SECONDS, self.transport.abort)

    async def receive(self) -> Any:
        """Return the next message. A connection that ended without a close frame is broken."""
        message: Any = await super().receive()
        if message["type"] == "websocket.disconnect" and self.disconnected and self.conn.close_rcvd is None:
            message["code"] = BROKEN
        return message

    async def run_asgi(self) -> None:
        """Call the application, and close the connection when it has ended."""
        with suppress(ClientDisconnected, asyncio.CancelledError):
            try:
                await self.app(self.scope, self.receive, self.send)
            except Exception as error:
                if isinstance(error, ClientDisconnected):
                    raise
                logger.exception("A WebSocket was broken off, because of an error")
        if not self.handshake_complete:
            self.send_500_response()
        if self.close_timer is None:
            self.transport.close()
