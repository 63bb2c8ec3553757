"""HTTP to agents: the client, an agent's address as a URL, and why a request failed."""

import errno
import os
from typing import Any

import httpx


def agent_client(**options: Any) -> httpx.AsyncClient:
    """Return a client for plain HTTP that ignores the environment's proxies and follows no redirect.

    `options` go to httpx. There are no timeouts except those in `options`.
    """
    return httpx.AsyncClient(
        verify=False,  # noqa: S501  # plain HTTP only; making a TLS context takes 20 ms
        trust_env=False,
        event_hooks={"response": [_remove_location]},
        **({"timeout": None} | options),
    )


def agent_url(address: tuple[str, int], path: str) -> str:
    """Return the URL of `path` at an agent. The host of `address` may be an IPv6 address."""
    host, port = address
    return f"http://[{host}]:{port}{path}" if ":" in host else f"http://{host}:{port}{path}"


def failure_reason(error: BaseException) -> str:
    """Return the operating system's reason for `error`, which httpx keeps deep in the chain of causes."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.errno and cause.errno in errno.errorcode:
            return os.strerror(cause.errno).lower()
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


async def _remove_location(response: httpx.Response) -> None:
    """Remove the header, because httpx parses it although redirects are not followed, and fails on `mailto:x`."""
    response.headers.pop("location", None)
