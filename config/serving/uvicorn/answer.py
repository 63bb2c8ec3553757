"""One request under uvicorn and its answer.

uvicorn sends chunks to HTTP/1.0 too, takes a 304 with a length for incomplete, adds a second `Date`, and writes a
traceback for each application that is cancelled. It closes a connection whose body was not read in such a way that the
caller may lose the answer, so the connection decides how it is closed (`is_last`).
"""

import asyncio
import logging
import time
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from lifecycle.exceptions import AgentBrokeOff

logger = logging.getLogger(__name__)

WITHOUT_BODY = (204, 304)


class Answer(RequestResponseCycle):
    """uvicorn's object for a request: it is the `receive` and the `send` of the application."""

    #: Whether the connection ends with this answer.
    is_last = False
    #: Whether the end of the connection is the end of the body, as for HTTP/1.0.
    _ends_with_connection = False

    async def run_asgi(self, app: Any) -> None:
        """Call the application. Close the connection if its answer stays incomplete."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            pass  # this process ends
        except AgentBrokeOff as error:
            logger.warning("%s", error)
        except Exception:
            logger.exception("A request was not answered, because of an error")
            if not self.response_started:
                await self.send_500_response()
        finally:
            if not self.response_complete and not self.disconnected:
                self.disconnected = True
                self.transport.close()

    async def send(self, message: Any) -> None:
        """Send an ASGI message when the socket has room. The last part of an answer never waits."""
        if message["type"] == "http.response.start":
            await self._begin(message)
            return
        body = message.get("body", b"")
        if self._ends_with_connection:
            self.expected_content_length = len(body)
        was_paused = self.flow.write_paused
        if not message.get("more_body"):
            self.flow.resume_writing()
        await super().send(message)
        if was_paused and not message.get("more_body"):
            self.flow.pause_writing()

    async def _begin(self, message: dict[str, Any]) -> None:
        status = message["status"]
        headers = list(message.get("headers", []))
        names = {name.lower() for name, _ in headers}
        if b"date" not in names:
            headers.append((b"date", _date(int(time.time()))))
        has_body = status not in WITHOUT_BODY and self.scope["method"] != "HEAD"
        if has_body and b"content-length" not in names and self.scope["http_version"] == "1.0":
            self.chunked_encoding = False
            self._ends_with_connection = True
        self.keep_alive = self.keep_alive and not self.more_body
        start: Any = message | {"headers": headers}
        await super().send(start)
        self.is_last = not self.keep_alive
        self.keep_alive = True  # else uvicorn closes the connection
        if status in WITHOUT_BODY:
            self.expected_content_length = 0


@lru_cache(maxsize=1)
def _date(seconds: int) -> bytes:
    """Return the value of `Date` for a time since the epoch, which the answers of one second share."""
    return formatdate(seconds, usegmt=True).encode()
