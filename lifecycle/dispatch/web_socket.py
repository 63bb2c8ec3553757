"""WebSockets to agents: the agent accepts first, then Dormouse does, and messages go both ways until one side closes.

An open WebSocket is work in flight.
"""

import asyncio
import logging
import time
from typing import Any

import aiohttp
from django.db import DatabaseError
from django.http import HttpRequest

from access.middleware import AsgiAccess
from access.problems import ProblemResponse, origin_problem
from lifecycle import assembly, tracing
from lifecycle.api.answers import database_problem, problem_of
from lifecycle.dispatch.agent_client import HandshakeRefused
from lifecycle.dispatch.body import Body
from lifecycle.dispatch.delivery import Work
from lifecycle.dispatch.dispatcher import AgentSocket
from lifecycle.dispatch.gateway import Address, Admitted, admit, note_dispatch
from lifecycle.dispatch.in_flight.draining import work_in_flight
from lifecycle.exceptions import LifecycleError

logger = logging.getLogger(__name__)

#: Codes of RFC 6455, section 7.4.1. The first two are never sent: no code was sent, and the connection broke.
NO_CODE, BROKEN = 1005, 1006
NORMAL, GOING_AWAY, SERVICE_RESTART, BAD_GATEWAY = 1000, 1001, 1012, 1014


class WebSocketGateway:
    """ASGI application that passes a WebSocket on to an agent."""

    def __init__(self) -> None:
        self._app = AsgiAccess(_serve)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Decide access as for a GET, connect to the agent, and pass messages on."""
        scheme = {"wss": "https"}.get(scope.get("scheme", "ws"), "http")
        await receive()  # websocket.connect
        as_http = scope | {"type": "http", "method": "GET", "scheme": scheme}
        await self._app(as_http, receive, _Refusing(scope, send))


class _Refusing:
    """An ASGI `send` that turns an HTTP answer into a refusal of the WebSocket."""

    def __init__(self, scope: Any, send: Any) -> None:
        self._can_answer = "websocket.http.response" in scope.get("extensions", {})
        self._send = send

    async def __call__(self, message: dict[str, Any]) -> None:
        """Send a message. Servers without the extension for it answer 403 to whatever is refused."""
        if not message["type"].startswith("http."):
            await self._send(message)
        elif self._can_answer:
            await self._send(message | {"type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await self._send({"type": "websocket.close"})


async def _serve(scope: Any, receive: Any, send: Any) -> None:
    with tracing.serve(scope) as span, work_in_flight.one():
        await _serve_one(scope, receive, send, span)


async def _serve_one(scope: Any, receive: Any, send: Any, span: tracing.RequestSpan) -> None:
    began = time.monotonic()
    found = await _connect(scope, span)
    if isinstance(found, ProblemResponse):
        note_dispatch(scope, found, began, span)
        logger.info("A WebSocket was refused with %d (%r)", found.status_code, found.detail)
        headers = [(name.lower().encode(), value.encode()) for name, value in found.items()]
        await send({"type": "http.response.start", "status": found.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": found.content})
        return
    try:
        note_dispatch(scope, found, began, span)
        run = (b"dormouse-run", str(found.run).encode())
        await send({"type": "websocket.accept", "subprotocol": found.socket.protocol, "headers": [run]})
        await _pass_messages(found, receive, send)
    finally:
        await found.close()


async def _connect(scope: Any, span: tracing.RequestSpan) -> AgentSocket | ProblemResponse:
    """Decide access on the headers, and return the agent's WebSocket when the agent has accepted it, or a problem."""
    try:
        admitted = await admit(scope, span, forgery=_forgery, takes=lambda address: address.path is not None)
        return admitted if isinstance(admitted, ProblemResponse) else await _open(admitted, scope)
    except LifecycleError as error:
        return problem_of(error)
    except DatabaseError as error:
        logger.error("%r: no WebSocket was opened, because the database cannot be used: %s", scope["path"], error)
        return database_problem()


def _forgery(request: HttpRequest, address: Address) -> ProblemResponse | None:
    """Return the problem of a WebSocket with a session that a page of another origin may have opened."""
    return origin_problem(request)


async def _open(admitted: Admitted, scope: Any) -> AgentSocket | ProblemResponse:
    """Return the agent's WebSocket when the agent has accepted it, or a problem with the status of its refusal."""
    address = admitted.address
    passed = [(name, value) for name, value in scope["headers"] if not name.startswith(b"sec-websocket-")]
    work = Work(admitted.hop.to_agent(passed), Body.of(b""), "GET", address.target(), order=admitted.order)
    dispatcher = await assembly.dispatcher()
    try:
        return await dispatcher.open_web_socket(address.name, work, scope["subprotocols"])
    except HandshakeRefused as error:
        return ProblemResponse(error.status, f"{address.name} refused the WebSocket.")


async def _pass_messages(agent: AgentSocket, receive: Any, send: Any) -> None:
    """Pass messages on until one side closes, and close the other side with the same code and reason."""
    from_caller = asyncio.create_task(_pass_to_agent(agent, receive))
    from_agent = asyncio.create_task(_pass_to_caller(agent, send))
    try:
        await asyncio.wait({from_caller, from_agent}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await send({"type": "websocket.close", "code": SERVICE_RESTART, "reason": "Dormouse is ending"})
        raise
    finally:
        for task in (from_caller, from_agent):
            task.cancel()
        await asyncio.gather(from_caller, from_agent, return_exceptions=True)
    if not from_caller.cancelled():
        code, reason = from_caller.result()
        await agent.socket.close(code=code, message=reason.encode())
    else:
        code, reason = from_agent.result()
        await send({"type": "websocket.close", "code": code, "reason": reason})


async def _pass_to_agent(agent: AgentSocket, receive: Any) -> tuple[int, str]:
    """Pass messages of the caller on, and return the code and the reason with which the caller has closed."""
    while (message := await receive())["type"] == "websocket.receive":
        try:
            if message.get("bytes") is not None:
                await agent.socket.send_bytes(message["bytes"])
            else:
                await agent.socket.send_str(message["text"])
        except (aiohttp.ClientError, OSError):  # it has ended, which the other direction sees, with the code
            await asyncio.get_running_loop().create_future()
    code = {NO_CODE: NORMAL, BROKEN: GOING_AWAY}.get(message.get("code", NO_CODE), message.get("code", NORMAL))
    return code, message.get("reason") or ""


async def _pass_to_caller(agent: AgentSocket, send: Any) -> tuple[int, str]:
    """Pass messages of the agent on, and return the code and the reason with which the agent has closed."""
    while True:
        message = await agent.socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
        elif message.type is aiohttp.WSMsgType.CLOSE:
            await agent.report_end(is_broken=False)
            return message.data or NORMAL, message.extra or ""
        else:
            break
    if agent.socket.close_code == BROKEN:
        await agent.report_end(is_broken=True)
        return BAD_GATEWAY, "the agent broke off"
    return agent.socket.close_code or BAD_GATEWAY, ""
