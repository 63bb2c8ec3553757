"""A bound for the requests that Django serves at once, because each of them has a thread of its own."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from config.serving.base_path import path_below

#: A pattern of the paths to which work is sent. They are answered by the gateway, in front of Django.
WORK_PATH = r"/api/instances/[^/]+/(?:dispatch|proxy/(?s:.*))"
#: Requests at once. 1,500 at once without an account made 1,471 threads.
MAX_REQUESTS = 64
#: Not counted: a static file takes as long as its reader. A health check must be answered while others wait.
NOT_COUNTED = re.compile(rf"/healthz|/readyz|{settings.SERVESTATIC_STATIC_PREFIX}.*")


class LimitConcurrency:
    """ASGI middleware that lets at most MAX_REQUESTS into the application. The others wait in order."""

    def __init__(self, app: Callable[..., Awaitable[None]], max_requests: int = MAX_REQUESTS) -> None:
        self.app = app
        self.max_requests = max_requests
        #: By event loop, because tests have one for each request.
        self._slots: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Call the application when there is room."""
        if NOT_COUNTED.fullmatch(path_below(scope)):
            await self.app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        async with self._slots.setdefault(loop, asyncio.Semaphore(self.max_requests)):
            await self.app(scope, receive, send)
