"""The HTTP client for agents: plain HTTP, nothing of the environment's proxies, and no interest in redirects."""

from typing import Any

import httpx


def agent_client(**more: Any) -> httpx.AsyncClient:
    """`more` goes to httpx. No timeouts but those in `more`."""
    return httpx.AsyncClient(
        verify=False,  # noqa: S501  # plain HTTP; and making a TLS context takes 20 ms
        trust_env=False,
        event_hooks={"response": [_forget_location]},
        **({"timeout": None} | more),
    )


async def _forget_location(response: httpx.Response) -> None:
    """httpx reads it also where redirects are not followed, and fails on `mailto:x`. An answer is an answer."""
    response.headers.pop("location", None)
