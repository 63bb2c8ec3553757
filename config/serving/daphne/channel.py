"""A channel of Twisted's that keeps the limits of a connection. daphne has one for each connection.

Twisted alone gives a connection 60 s from its latest byte, so one byte a minute keeps it for ever. It also takes a
caller that has only finished sending for one that has hung up.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from config.serving.daphne.lingering import Gone, Lingering
from config.serving.limits import (
    BODY_SECONDS,
    HEADERS_SECONDS,
    IDLE_SECONDS,
    MAY_STALL,
    PROBE_SECONDS,
    STALLED_SECONDS,
    WORK_PATH,
    Waiting,
    is_reset,
)

#: No body has a length of more digits. Python refuses to read a number of more than 4,300.
LENGTH_DIGITS = 20


@implementer(IHalfCloseableProtocol)
class LimitedChannel(HTTPChannel):  # type: ignore[misc]  # most of Twisted's HTTP is not typed
    """Twisted's channel, with deadlines that no byte prolongs, and a bound for the channels that wait.

    Only `setTimeout` keeps time here: each phase of a connection sets its own deadline.
    """

    waiting: ClassVar[Waiting["LimitedChannel"]] = Waiting()
    #: The connection, or a `Gone` if another protocol has taken it over.
    transport: Any

    def connectionMade(self) -> None:  # noqa: N802  # Twisted's names
        """Wait for the first request."""
        self.timeOut = IDLE_SECONDS
        self._is_in_headers = False
        self._has_finished_sending = False
        self._probe: Any = None
        self._deadline: asyncio.TimerHandle | None = None
        super().connectionMade()
        self._wait()

    def _wait(self) -> None:
        """Join the channels that wait. If they are too many, the one that has waited longest is closed."""
        longest = self.waiting.join(self)
        if longest:
            longest.timeoutConnection()

    def setTimeout(self, period: Any) -> Any:  # noqa: N802
        """Let the connection end in so many seconds, or never, instead of at the deadline before. Return that one's.

        Twisted's timers are not used: to move one, it searches them all, which took 8 % of a dispatch's time.
        """
        before = self.timeOut
        self.timeOut = period
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if period is None else self._start_timer(period, self.timeoutConnection)
        return before

    def _start_timer(self, seconds: float, act: Callable[[], object]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, act)

    def resetTimeout(self) -> None:  # noqa: N802
        """Do nothing: a byte does not prolong a deadline."""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Begin the deadline of the headers with their first byte."""
        if not (self._is_in_headers or self._handlingRequest):
            self._is_in_headers = True
            self.setTimeout(HEADERS_SECONDS)
        super().dataReceived(data)

    def headerReceived(self, line: bytes) -> bool:  # noqa: N802
        """Refuse a length of more than LENGTH_DIGITS, and the coding `identity`.

        HTTP has that coding no more (RFC 9112, 7), and Twisted skips it. A proxy may take it for the last coding, and
        see another end of the body than Twisted.
        """
        name, _, value = line.partition(b":")
        is_identity = name.lower() == b"transfer-encoding" and value.strip().lower() == b"identity"
        is_absurd = name.lower() == b"content-length" and len(value.strip()) > LENGTH_DIGITS
        if is_identity or is_absurd:
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802
        """Refuse a line of more than 16 KiB. Twisted closes the connection without an answer."""
        self._respondToBadRequestAndDisconnect()

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802
        """Answer 400, and leave the connection to `Lingering`. Twisted's may reset it before the answer is read.

        If another answer has begun, it is the last one: it is cut, or has ended and goes on leaving.
        """
        request: Any = self.requests[-1] if self.requests else None
        has_begun = bool(request and request.startedWriting)
        if has_begun and not request.is_lingering:
            self.transport.abortConnection()
            return
        connection: Any = self.transport
        self.transport = Gone()
        self._networkProducer.unregisterProducer()
        if not has_begun:
            connection.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        Lingering(connection)
        lost = Failure(ConnectionDone())  # type: ignore[no-untyped-call]
        self.connectionLost(lost)  # for the application the caller is gone

    def allHeadersReceived(self) -> None:  # noqa: N802
        """Begin the deadline of the body. Work has none: that of a stranger is refused on its headers."""
        if WORK_PATH.fullmatch(self._path.partition(b"?")[0]):
            self.waiting.leave(self)
            self.setTimeout(None)
            self.transport.setTcpKeepAlive(True)  # a machine that disappears is noticed nevertheless
        else:
            self.setTimeout(BODY_SECONDS)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:  # noqa: N802
        """Wait no more: the request is complete."""
        self.waiting.leave(self)
        self._is_in_headers = False
        self.setTimeout(None)
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:  # noqa: N802
        """Wait for the next request, or until the end of the answer has left."""
        self._wait()
        self._limit_stall(request)
        self._savedTimeOut = IDLE_SECONDS  # Twisted's name for the deadline of a connection that stays open
        super().requestDone(request)
        if self._has_finished_sending and not self._handlingRequest:
            self.loseConnection()

    def pauseProducing(self) -> None:  # noqa: N802
        """Begin the deadline of an answer that its caller does not read."""
        super().pauseProducing()
        if self._handlingRequest:
            self._limit_stall(self.requests[0])

    def _limit_stall(self, request: Any) -> None:
        if not MAY_STALL.fullmatch(request.path or b""):
            self.setTimeout(STALLED_SECONDS)

    def resumeProducing(self) -> None:  # noqa: N802
        """End the deadline of an answer, because its caller reads."""
        super().resumeProducing()
        if self._handlingRequest:
            self.setTimeout(None)

    def readConnectionLost(self) -> None:  # noqa: N802
        """Go on if a whole request waits for its answer: the caller may only have finished sending.

        A caller that hangs up looks the same. If a stream or the answer of an agent has begun, it is taken for that.
        """
        if not self.requests:
            self.loseConnection()
        elif not self._handlingRequest or self._is_in_long_answer():
            self.transport.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
        elif not self._has_finished_sending:
            self._has_finished_sending = True
            self._probe_later()

    def _is_in_long_answer(self) -> bool:
        request = self.requests[0]
        return bool(request.startedWriting and MAY_STALL.fullmatch(request.path))

    def writeConnectionLost(self) -> None:  # noqa: N802
        """Do nothing: Dormouse itself has closed this direction."""

    def _probe_later(self) -> None:
        self._probe = self.callLater(PROBE_SECONDS, self._probe_caller)

    def _probe_caller(self) -> None:
        """Send an interim answer (RFC 9110, 15.2), which callers skip. One that has hung up resets the connection."""
        begun = not self.requests or self.requests[0].startedWriting
        can_be_asked = begun or self.requests[0].clientproto == b"HTTP/1.1"  # HTTP/1.0 has no interim answers
        if is_reset(self.transport.fileno()) or not can_be_asked:
            self.transport.abortConnection()
            return
        if not begun:
            self._send100Continue()
        self._probe_later()

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        """Wait no more."""
        self.waiting.leave(self)
        if self._probe and self._probe.active():
            self._probe.cancel()
        super().connectionLost(reason)
