"""Compresses static files as they are sent: there is no collectstatic step that could do it beforehand.

Scripts of our own go without their comments and blanks, which are for who reads the source.
"""

import gzip
import re
from collections.abc import Awaitable, Callable
from typing import Any

import rjsmin
from asgiref.sync import markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

TEXT = ("text/", "application/javascript", "image/svg+xml")
OUR_SCRIPTS = re.compile(f"{settings.STATIC_URL}agents_ui/.*[.]js")


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
        if "gzip" not in request.headers.get("Accept-Encoding", ""):
            return response
        return await compressed(response, is_script=bool(OUR_SCRIPTS.fullmatch(request.path)))


async def compressed(response: Any, is_script: bool) -> HttpResponse:
    """The same file. Without its ETag, which is that of the plain bytes; browsers ask again by its date."""
    body = b"".join([part async for part in response.streaming_content])
    response.close()
    if is_script:
        body = rjsmin.jsmin(body)
    skipped = ("content-length", "etag")
    headers = {name: value for name, value in response.items() if name.lower() not in skipped}
    return HttpResponse(gzip.compress(body, mtime=0), headers=headers | {"Content-Encoding": "gzip"})
