"""A deadline for an answer as a whole: `requests` has only one for each pause between two bytes."""

import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import urllib3.connection

_thread = threading.local()


@contextmanager
def answers_within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a read of this thread inside the block after so many seconds, however much has come."""
    before = getattr(_thread, "deadline", None)
    _thread.deadline = time.monotonic() + seconds
    try:
        yield
    finally:
        _thread.deadline = before


class _Reader(io.RawIOBase):
    """Reads from a socket, each time for as long as is left."""

    def __init__(self, source: socket.socket) -> None:
        self._sock = source  # the docker SDK looks for an attribute of this name when it closes a stream
        self._timeout: float | None = source.gettimeout()
        self._source: Any = source.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Return True, which io.BufferedReader asks for."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what has come, at the latest at this thread's deadline."""
        deadline = getattr(_thread, "deadline", None)
        left = self._timeout  # a stream of events is read on without a deadline after its headers
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the answer did not end in time")
        self._sock.settimeout(left)
        read: int | None = self._source.readinto(buffer)
        return read

    def close(self) -> None:
        """Close the file of the socket, too, so that the socket can be closed."""
        self._source.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose every read ends at the deadline."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Reader(sock))


# The docker SDK uses `requests`, and that urllib3. None has a parameter for this, but http.client has an attribute. It
# holds for the whole process: docs/decisions/0047-deadline-of-an-answer.md says why, and what guards it.
urllib3.connection.HTTPConnection.response_class = _Response
