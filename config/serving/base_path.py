"""Serving everything below DORMOUSE_BASE_PATH, because a proxy shares one address between several applications."""

from collections.abc import Awaitable, Callable
from typing import Any

from django.http import HttpResponseRedirect

from access.middleware import send_response
from access.problems import ProblemResponse

#: Answered without the base path too, because a health check comes from beside the process and not through the proxy.
HEALTH_PATHS = ("/healthz", "/readyz")


class BasePath:
    """ASGI middleware that must be outermost: it decides what is below the base path, and answers 404 to the rest.

    It sets `root_path`, with which Django and Channels find the rest of the path and make links. What the server or a
    caller says of that (daphne's `--root-path`, the header `Daphne-Root-Path`) is ignored.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], base_path: str) -> None:
        self.app = app
        self.base_path = base_path

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Call the application for a path below the base path, and for health checks."""
        path = scope.get("path", "")  # the scope of a lifespan has none
        if scope["type"] == "lifespan" or path.startswith(f"{self.base_path}/"):
            await self.app(scope | {"root_path": self.base_path}, receive, send)
        elif path in HEALTH_PATHS:
            await self.app(scope | {"root_path": ""}, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif path == self.base_path:
            await send_response(HttpResponseRedirect(f"{path}/"), send)
        else:
            await send_response(ProblemResponse(404, f"Dormouse is at {self.base_path}/ (DORMOUSE_BASE_PATH)."), send)


def path_below(scope: dict[str, Any]) -> str:
    """Return the path of a request below the base path, as the URLs of the applications name it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
