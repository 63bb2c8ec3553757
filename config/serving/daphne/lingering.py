"""The end of a connection whose caller is refused and may still be sending.

A socket that is closed with unread data resets the connection, and the answer may be lost (RFC 9112, 9.6).
"""

import asyncio
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from config.serving.limits import LINGER_BYTES, LINGER_SECONDS


@implementer(IHalfCloseableProtocol)
class Lingering(Protocol):
    """Takes a connection over, closes it for writing, and throws away what comes, for LINGER_SECONDS at most.

    No byte reaches the parser of HTTP any more, so none of them can be read as a further request.
    """

    transport: Any

    def __init__(self, transport: Any) -> None:
        """Take the connection over. What was written to it before is still sent."""
        self.transport = transport
        transport.protocol = self
        self._thrown_away_bytes = 0
        self._open_directions = {"read", "write"}
        self._deadline = asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abortConnection)
        transport.resumeProducing()
        transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802  # Twisted's names
        """Throw it away. After LINGER_BYTES, read no more."""
        self._thrown_away_bytes += len(data)
        if self._thrown_away_bytes > LINGER_BYTES:
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:  # noqa: N802
        """Note that the caller has finished sending."""
        self._end_direction("read")

    def writeConnectionLost(self) -> None:  # noqa: N802
        """Note that the answer has left."""
        self._end_direction("write")

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802
        """Wait no more."""
        self._deadline.cancel()

    def _end_direction(self, direction: str) -> None:
        self._open_directions.discard(direction)
        if not self._open_directions:
            self.transport.loseConnection()


class Gone:
    """Stands in a channel for the connection that another protocol has taken over: what is written is dropped."""

    #: Makes Twisted's parser stop.
    disconnecting = True

    def write(self, data: bytes) -> None:
        """Drop it."""

    def writeSequence(self, data: list[bytes]) -> None:  # noqa: N802
        """Drop it."""

    def loseConnection(self) -> None:  # noqa: N802
        """Do nothing."""

    abortConnection = loseConnection  # noqa: N815
