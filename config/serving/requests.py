"""The id of each request, and the line of the log when it has ended.

The caller may give the id as `X-Request-ID`. The agent gets it in the same header, the answer has it, and each line of
the log that is about the request.
"""

import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from config.logs import request_id
from config.serving.base_path import HEALTH_PATHS, path_below

logger = logging.getLogger(__name__)

HEADER = b"x-request-id"
#: Other ids are replaced: they could forge a line of the log, or fill it.
ACCEPTABLE = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")
MAX_PATH_CHARACTERS = 500
#: The messages that begin an answer and have headers.
BEGINNINGS = {"http.response.start", "websocket.accept", "websocket.http.response.start"}
SWITCHED, REFUSED = 101, 403


class LogRequests:
    """ASGI middleware. It must be inside of what recognises the server's own `send`, and outside of all else."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Give the request an id, call the application, and log the end."""
        own = _find_id(scope["headers"])
        request_id.set(own)
        headers = [header for header in scope["headers"] if header[0] != HEADER]
        answer = _Answer(send, own.encode())
        began = time.monotonic()
        try:
            await self.app(scope | {"headers": [*headers, (HEADER, own.encode())]}, receive, answer.send)
        finally:
            if settings.DORMOUSE_ACCESS_LOG:
                _log_end(scope, answer.status, time.monotonic() - began)


class _Answer:
    """Adds the id to the answer, and remembers its status."""

    def __init__(self, send: Callable[[dict[str, Any]], Awaitable[None]], own: bytes) -> None:
        self._send, self._own = send, own
        #: 0: no answer has begun.
        self.status = 0

    def send(self, message: dict[str, Any]) -> Awaitable[None]:
        """Send a message. This is no coroutine, because a stream sends thousands."""
        if message["type"] in BEGINNINGS:
            self.status = message.get("status", SWITCHED)
            headers = [header for header in message.get("headers", ()) if bytes(header[0]).lower() != HEADER]
            message = message | {"headers": [*headers, (HEADER, self._own)]}
        elif message["type"] == "websocket.close" and not self.status:
            self.status = REFUSED
        return self._send(message)


def _find_id(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the id that the caller gave, or a new one."""
    given = next((value for name, value in headers if name == HEADER), b"")
    return given.decode() if ACCEPTABLE.fullmatch(given) else uuid.uuid4().hex


def _log_end(scope: dict[str, Any], status: int, seconds: float) -> None:
    """Log a line for a request that has ended. The query is left out, because it may hold secrets."""
    path = scope["path"].replace(" ", "%20")  # else a path could tell another status and another client
    fields = {
        "method": scope.get("method", "WEBSOCKET"),
        "path": path if len(path) <= MAX_PATH_CHARACTERS else f"{path[:MAX_PATH_CHARACTERS]}…",
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
        "client": (scope.get("client") or ("",))[0],
    }
    is_routine = path_below(scope) in HEALTH_PATHS and status < 400
    logger.log(
        logging.DEBUG if is_routine else logging.INFO,
        "%(method)s %(path)s %(status)d in %(duration_ms)s ms from %(client)s",
        fields,
        extra={"fields": fields},
    )
