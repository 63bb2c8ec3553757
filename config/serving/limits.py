"""The limits of a connection, in time and number, under either server."""

import re
import select
from typing import Generic, TypeVar

from django.conf import settings

from config.serving.concurrency import WORK_PATH as WORK_PATTERN

#: How long a connection may wait for its first or next request.
IDLE_SECONDS = 60
#: How long all headers of a request may take, and then its body, if it is not work.
HEADERS_SECONDS = 20
BODY_SECONDS = 60
#: How long an answer may wait for its caller to read. Streams and the answers of agents have rules of their own.
STALLED_SECONDS = 60
#: Connections that wait for a request, or for a body that is not work. 1,500 of strangers held 1,500 sockets.
MAX_WAITING = 512
#: How often a caller that has finished sending is asked whether it still listens.
PROBE_SECONDS = 1
#: After an answer that did not wait for the end of the body: how long the caller may take to read it before its
#: connection is cut, and how much more of the body is read (and thrown away) meanwhile.
LINGER_SECONDS = 1
LINGER_BYTES = 1024 * 1024
Connection = TypeVar("Connection")

_BASE = re.escape(settings.DORMOUSE_BASE_PATH)
WORK_PATH = re.compile(f"{_BASE}{WORK_PATTERN}".encode())
MAY_STALL = re.compile(f"{_BASE}(/events|{WORK_PATTERN})".encode())


class Waiting(Generic[Connection]):
    """The connections that wait for a request, or for a body that is not work. They are at most MAX_WAITING."""

    def __init__(self) -> None:
        #: Those that have waited longest are first.
        self._all: dict[Connection, None] = {}

    def join(self, connection: Connection) -> Connection | None:
        """Add a connection. If they are too many then, remove and return the one that has waited longest: close it."""
        self._all[connection] = None
        if len(self._all) <= MAX_WAITING:
            return None
        longest = next(iter(self._all))
        del self._all[longest]
        return longest

    def leave(self, connection: Connection) -> None:
        """Remove a connection, if it waits."""
        self._all.pop(connection, None)


def is_reset(descriptor: int) -> bool:
    """Return whether the caller has reset the connection, of which no event loop tells after the caller's end."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))
