"""HTTP to agents: the session of a client, an agent's address as a URL, and why a request failed."""

import errno
import os
from typing import Any

import aiohttp

#: How long a connection may take. Agents are near.
CONNECT_SECONDS = 1
#: What is read of an answer before its caller takes it.
BUFFER_BYTES = 64 * 1024
#: Limits of an answer's head: of one line, and of the number of headers.
MAX_LINE_BYTES = 64 * 1024
MAX_HEADERS = 500
#: aiohttp adds these to a request that lacks them.
NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class NotDelivered(Exception):
    """Nothing of the work was sent. The message says why."""


class SendFailed(Exception):
    """The request failed after it was sent, perhaps in part. The message says why."""


def agent_session(connector: aiohttp.BaseConnector | None = None) -> aiohttp.ClientSession:
    """Return a session for plain HTTP that ignores the environment's proxies, and adds no header of its own.

    It has no timeout but that of a connection. Its requests raise NotDelivered and SendFailed.
    """
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=NOT_ADDED,
        read_bufsize=BUFFER_BYTES,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
        max_headers=MAX_HEADERS,
        middlewares=(_translate_errors,),
    )


def agent_url(address: tuple[str, int], path: str) -> str:
    """Return the URL of `path` at an agent. The host of `address` may be an IPv6 address."""
    host, port = address
    return f"http://[{host}]:{port}{path}" if ":" in host else f"http://{host}:{port}{path}"


def failure_reason(error: BaseException) -> str:
    """Return why a request failed, to be read after "NAME broke off: "."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection within {CONNECT_SECONDS} s"
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.errno and cause.errno in errno.errorcode:
            return os.strerror(cause.errno).lower()
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "its answer is incomplete or cannot be read"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"its answer is no HTTP: {error.message.partition(chr(10))[0]}"
    return str(error) or type(error).__name__


async def _translate_errors(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> Any:
    """Raise errors of ours, because aiohttp repeats a PUT, DELETE or GET by itself if it sees one of its own."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise NotDelivered(failure_reason(error)) from error
    except (aiohttp.ClientError, ValueError) as error:
        raise SendFailed(failure_reason(error)) from error
