"""A bound for the bodies that Django receives: forms of the login and the admin, which are small."""

from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from access.middleware import send_response
from access.problems import ProblemResponse

#: The largest body of a request that is not work for an agent.
MAX_BODY_BYTES: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE


class BoundedBody:
    """ASGI middleware that receives the body before it calls the application, and refuses a large one with 413.

    The application may then have a bound for the requests that it serves at once: none of them waits for its caller.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Call the application with the whole body, unless that is too large or the caller hangs up."""
        if _stated_length(scope) > MAX_BODY_BYTES:
            await _refuse(send)
            return
        parts, size, more_body = [], 0, True
        while more_body:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more_body = message.get("more_body", False)
            if size > MAX_BODY_BYTES:
                await _refuse(send)
                return
        whole: list[dict[str, Any]] = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

        async def receive_again() -> Any:
            return whole.pop() if whole else await receive()

        await self.app(scope, receive_again, send)


def _stated_length(scope: dict[str, Any]) -> int:
    """Return the body's length according to its header; 0 if that says nothing, because then the parts are counted."""
    stated = dict(scope["headers"]).get(b"content-length", b"")
    return int(stated) if stated.isdigit() else 0


async def _refuse(send: Any) -> None:
    await send_response(ProblemResponse(413, f"The body may have at most {MAX_BODY_BYTES} bytes."), send)
