"""Compression of static files while they are sent, because no collectstatic step does it beforehand.

Our own scripts are sent without comments and blanks, which only help a reader of the source.
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

TEXT_TYPES = ("text/", "application/javascript", "image/svg+xml")
OUR_SCRIPTS = re.compile(f"{re.escape(settings.STATIC_URL)}agents_ui/.*[.]js")


class StaticCompressionMiddleware:
    """Django middleware that compresses static text, and leaves every other response alone.

    Django's GZipMiddleware would also compress an agent's answer. It makes each part of a streamed answer a gzip member
    of its own, and browsers read only the first member.
    """

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[Any]]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        """Return the response, compressed if it is static text and the client accepts gzip."""
        response = await self.get_response(request)
        if not request.path.startswith(settings.STATIC_URL) or request.method != "GET" or response.status_code != 200:
            return response
        if not response.get("Content-Type", "").startswith(TEXT_TYPES):
            return response
        patch_vary_headers(response, ["Accept-Encoding"])
        if "gzip" not in request.headers.get("Accept-Encoding", ""):
            return response
        return await _compress(response, is_script=bool(OUR_SCRIPTS.fullmatch(request.path)))


async def _compress(response: Any, is_script: bool) -> HttpResponse:
    """Return the same file, compressed, without its ETag, which belongs to the plain bytes.

    Browsers then ask again by the file's date.
    """
    body = b"".join([part async for part in response.streaming_content])
    response.close()
    if is_script:
        body = rjsmin.jsmin(body)
    dropped = ("content-length", "etag")
    headers = {name: value for name, value in response.items() if name.lower() not in dropped}
    return HttpResponse(gzip.compress(body, mtime=0), headers=headers | {"Content-Encoding": "gzip"})
