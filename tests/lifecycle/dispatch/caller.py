"""A caller of an ASGI application, which sees its messages as they are."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httpx
from django.test import Client

from access.middleware import AsgiAccess
from lifecycle import assembly
from lifecycle.dispatch.gateway import Gateway
from tests.lifecycle.conftest import NAME

URL = f"/api/instances/{NAME}/dispatch"
PROXY = f"/api/instances/{NAME}/proxy"
CSRF = "t" * 32
TOKEN = {"Authorization": "Bearer the-tests-token"}


@dataclass
class Received:
    """An answer that has come to its end."""

    status_code: int
    headers: httpx.Headers
    content: bytes

    @property
    def problem(self) -> Any:
        """The problem details, or None if it is another answer."""
        is_problem = self.headers.get("Content-Type") == "application/problem+json"
        return json.loads(self.content) if is_problem else None


def scope_of(method: str, url: str, headers: Mapping[str, str | bytes], body: bytes | None) -> dict[str, Any]:
    path, _, query = url.partition("?")
    found = {"Host": "localhost"} | dict(headers) | ({} if body is None else {"Content-Length": str(len(body))})
    fields = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode()) for name, value in found.items()
    ]
    where = {"path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(), "root_path": ""}
    who = {"client": ["192.0.2.7", 50000], "server": ["127.0.0.1", 8000], "scheme": "http"}
    return {"type": "http", "http_version": "1.1", "method": method, "headers": fields, **where, **who}


async def call(application: Any, scope: dict[str, Any], body: bytes | None = None) -> Received:
    """Send a request, and return the answer. The caller does not hang up before."""
    sent = [{"type": "http.request", "body": body or b"", "more_body": False}]
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return sent.pop() if sent else await asyncio.get_running_loop().create_future()

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await application(scope, receive, send)
    start, *parts = messages
    return Received(start["status"], httpx.Headers(start["headers"]), b"".join(part["body"] for part in parts))


def ask(method, url, body=None, headers=TOKEN, user=None):
    """Send a request of a program or a person. An answer that breaks off raises AgentBrokeOff."""
    if user:
        client = Client()
        client.force_login(user)
        session = client.cookies["sessionid"].value
        headers = headers | {"Cookie": f"sessionid={session}; csrftoken={CSRF}"}

    async def send():
        try:
            return await call(AsgiAccess(Gateway()), scope_of(method, url, headers, body), body)
        finally:
            await assembly._dispatchers[0].close_connections()

    return asyncio.run(send())


def post(url=URL, body=b"work", content_type="text/plain", headers=TOKEN, **more):
    return ask("POST", url, body, {"Content-Type": content_type} | headers, **more)
