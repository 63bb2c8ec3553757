"""Compresses static files as they are sent: there is no collectstatic step that could do it beforehand."""

import gzip
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

TEXT = ("text/", "application/javascript", "image/svg+xml")


class StaticCompressionMiddleware:
    """For static text alone: it never sees what an agent answers, which is passed on as it comes.

    Django's GZipMiddleware makes a gzip member of each part of such an answer, and browsers read only the first.
    """

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[Any]]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        response = await self.get_response(request)
        if not request.path.startswith(settings.STATIC_URL) or request.method != "GET" or response.status_code != 200:
            return response
        if not response.get("Content-Type", "").startswith(TEXT):
            return response
        patch_vary_headers(response, ["Accept-Encoding"])
        return await compressed(response) if "gzip" in request.headers.get("Accept-Encoding", "") else response


async def compressed(response: Any) -> HttpResponse:
    """The same file. Without its ETag, which is that of the plain bytes; browsers ask again by its date."""
    body = b"".join([part async for part in response.streaming_content])
    response.close()
    skipped = ("content-length", "etag")
    headers = {name: value for name, value in response.items() if name.lower() not in skipped}
    return HttpResponse(gzip.compress(body, mtime=0), headers=headers | {"Content-Encoding": "gzip"})
