"""A connection under uvicorn, with the limits that it has under daphne.

uvicorn alone bounds neither the headers nor their time, nor the number of connections. It takes a caller that has only
finished sending for one that has hung up, answers 400 in the middle of another answer if what comes behind a request is
none, and never reads on after an upgrade that it does not know.
"""

import asyncio
import logging
import math
import socket
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from config.serving import limits
from config.serving.uvicorn.answer import Answer

logger = logging.getLogger(__name__)

#: All headers of a request, with the request line. Twisted has the same limit.
MAX_HEAD_BYTES = 16384
#: What is read of a connection at once. With asyncio's 256 KB an upload of 1 GB added 1.1 MB to the process.
READ_BYTES = 64 * 1024


class Refused(Exception):
    """The request is answered with a status by the connection itself."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, with deadlines that no byte prolongs, and a bound for the connections that wait."""

    waiting: ClassVar[limits.Waiting["Connection"]] = limits.Waiting()

    cycle: Answer

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request."""
        #: The request whose answer is made. uvicorn's `cycle` is the latest of which the headers have come.
        self._active: Answer | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._probe: asyncio.TimerHandle | None = None
        #: What was not sent at the last look. It must become less.
        self._unsent_bytes = math.inf
        #: Between the first byte of a request and the end of its headers.
        self._is_in_head = False
        #: What was parsed of the headers, and what has come of them in further packets. Each is at most their size.
        self._head_bytes = self._further_head_bytes = 0
        self._has_finished_sending = False
        #: Counts what is thrown away. None: what comes is read.
        self._thrown_away_bytes: int | None = None
        self._refusal = HTTPStatus.BAD_REQUEST
        transport.max_size = READ_BYTES
        super().connection_made(transport)
        self._wait(limits.IDLE_SECONDS)

    # What comes

    def data_received(self, data: bytes) -> None:
        """Parse what has come, or throw it away if the connection reads no further request."""
        if self._thrown_away_bytes is not None:
            self._throw_away(data)
            return
        was_in_head = self._is_in_head
        if not self._is_busy and not was_in_head:
            self._set_deadline(limits.HEADERS_SECONDS)
        try:
            self.parser.feed_data(data)
            if was_in_head and self._is_in_head:
                self._further_head_bytes += len(data)
                self._check_head(self._further_head_bytes)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except (httptools.HttpParserError, Refused):
            self._refuse()

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        self._is_in_head = True
        self._head_bytes = self._further_head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._refusal = HTTPStatus.REQUEST_URI_TOO_LONG
        self._count_head(len(url))
        self._refusal = HTTPStatus.BAD_REQUEST
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, and drop a trailer. Codings other than `chunked` are refused: a proxy may differ."""
        self._count_head(len(name) + len(value) + 4)
        if not self._is_in_head:
            return
        is_known = value.lower() == b"chunked" and self.parser.get_http_version() == "1.1"
        if name.lower() == b"transfer-encoding" and not is_known:
            raise Refused
        super().on_header(name, value)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        self._check_head(self._head_bytes)

    def _check_head(self, size: int) -> None:
        if size > MAX_HEAD_BYTES:
            if self._refusal is HTTPStatus.BAD_REQUEST:
                self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise Refused

    def on_headers_complete(self) -> None:
        """Call the application, and begin the deadline of the body. Work has none."""
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise Refused
        self._is_in_head = False
        self._head_bytes = 0  # from now on it counts trailers
        self.expect_100_continue &= self.parser.get_http_version() == "1.1"
        super().on_headers_complete()
        if self.parser.should_upgrade():
            if self._should_upgrade():
                return
            self.cycle.keep_alive = False  # what follows is another protocol, according to the caller
        if self._is_at(self.cycle, limits.WORK_PATH):
            self.waiting.leave(self)
            self._set_deadline(None)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        elif self.cycle is self._active:
            self._set_deadline(limits.BODY_SECONDS)

    def on_message_complete(self) -> None:
        """Wait no more: the request is complete."""
        super().on_message_complete()
        self.waiting.leave(self)
        self._set_deadline(None)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    # What is refused

    def _refuse(self) -> None:
        """Answer that this is no request, unless another answer is under way: then that is the last one."""
        active = self._active
        self._thrown_away_bytes = 0
        if self._is_busy and active and (active is not self.cycle or not active.more_body):
            active.keep_alive = False
            active.is_last = True
            if self.pipeline and self.cycle.more_body:
                self.pipeline.popleft()
            return
        if self._is_busy and active:
            active.disconnected = True
            active.message_event.set()
            if active.response_started:
                self.transport.abort()
                return
        status = self._refusal
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        self.transport.write(head.encode())
        self._linger()

    def _throw_away(self, data: bytes) -> None:
        self._thrown_away_bytes = (self._thrown_away_bytes or 0) + len(data)
        if self._thrown_away_bytes > limits.LINGER_BYTES:
            self.flow.pause_reading()

    def _linger(self) -> None:
        """Close for writing, and cut the connection a moment later.

        A socket that is closed with unread data resets the connection, and the answer may be lost.
        """
        self._thrown_away_bytes = 0
        self.waiting.leave(self)
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self.transport.write_eof()
        self._set_deadline(limits.LINGER_SECONDS, self.transport.abort)

    # Upgrades

    def _should_upgrade(self) -> bool:
        """Return whether this is a WebSocket. An upgrade with a body is an ordinary request."""
        names = {name for name, _ in self.headers}
        is_plain = self.parser.get_method() == b"GET" and self.parser.get_http_version() == "1.1"
        has_body = b"transfer-encoding" in names or dict(self.headers).get(b"content-length", b"0") != b"0"
        return is_plain and not has_body and super()._should_upgrade()

    def _upgrade(self) -> None:
        if self._should_upgrade() and not self._is_busy:
            self.waiting.leave(self)
            self._set_deadline(None)
            self.handle_websocket_upgrade()
        else:
            self._thrown_away_bytes = 0

    # The end of an answer, and of a connection

    def on_response_complete(self) -> None:
        """Go on with the next request, wait for it, or end the connection."""
        answer = self._active
        assert answer
        if self.transport.is_closing():
            return
        if answer.is_last or (self._has_finished_sending and not self.pipeline):
            if answer.more_body or self._thrown_away_bytes is not None:
                self._linger()
            else:
                self._set_deadline(limits.STALLED_SECONDS)
                self.transport.close()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            self._wait_for_body(self.cycle)
        else:
            self._wait(limits.IDLE_SECONDS)

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio defines it
        """Go on if a whole request waits for its answer: the caller may only have finished sending.

        A caller that hangs up looks the same. If a stream or the answer of an agent has begun, it is taken for that.
        """
        active = self._active
        if not self._is_busy or active is None or self._is_lingering:
            return False
        if self.cycle.more_body or (active.response_started and self._is_at(active, limits.MAY_STALL)):
            self.transport.abort()
            return False
        self._has_finished_sending = True
        self._probe_later()
        return True

    def _probe_later(self) -> None:
        self._probe = self.loop.call_later(limits.PROBE_SECONDS, self._probe_caller)

    def _probe_caller(self) -> None:
        """Send an interim answer (RFC 9110, 15.2), which callers skip. One that has hung up resets the connection."""
        active = self._active
        if active is None or self.transport.is_closing():
            return
        can_be_asked = active.response_started or active.scope["http_version"] == "1.1"  # HTTP/1.0 has none
        if limits.is_reset(self.transport.get_extra_info("socket").fileno()) or not can_be_asked:
            self.transport.abort()
            return
        if not active.response_started:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._probe_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application, unless its answer is complete."""
        self.waiting.leave(self)
        self._set_deadline(None)
        if self._probe:
            self._probe.cancel()
        if self._active and not self._active.response_complete:
            self._active.disconnected = True
            self._active.message_event.set()
        super().connection_lost(exc)

    # Deadlines

    def pause_writing(self) -> None:
        """Begin the deadline of an answer that its caller does not read."""
        super().pause_writing()
        if self._active and not self._is_at(self._active, limits.MAY_STALL):
            self._set_deadline(limits.STALLED_SECONDS)

    def resume_writing(self) -> None:
        """End the deadline of an answer, because its caller reads."""
        super().resume_writing()
        if self._is_busy:
            self._set_deadline(None)

    def _wait_for_body(self, cycle: Answer) -> None:
        """Wait for the body of a request that came behind another one, if it is incomplete and not work."""
        if cycle is self._active and cycle.more_body and not self._is_at(cycle, limits.WORK_PATH):
            self._wait(limits.BODY_SECONDS)

    def _wait(self, seconds: float) -> None:
        """Join the connections that wait. If they are too many, the one that has waited longest is closed."""
        self._set_deadline(seconds)
        longest = self.waiting.join(self)
        if longest:
            longest.transport.abort()

    def _set_deadline(self, seconds: float | None, end: Any = None) -> None:
        if self._deadline:
            self._deadline.cancel()
        self._unsent_bytes = math.inf
        self._deadline = self.loop.call_later(seconds, end or self._end) if seconds else None

    def _end(self) -> None:
        """Close the connection, unless its caller is reading an answer."""
        unsent_bytes, before = self.transport.get_write_buffer_size(), self._unsent_bytes
        if 0 < unsent_bytes < before:
            self._set_deadline(limits.STALLED_SECONDS)
            self._unsent_bytes = unsent_bytes
        elif unsent_bytes:
            self.transport.abort()
        else:
            self.transport.close()

    @property
    def _is_busy(self) -> bool:
        return self._active is not None and not (self._active.response_complete or self._active.disconnected)

    @property
    def _is_lingering(self) -> bool:
        return self._thrown_away_bytes is not None and not self._is_busy

    def _is_at(self, answer: Answer, pattern: Any) -> bool:
        return bool(pattern.fullmatch(answer.scope["raw_path"]))
