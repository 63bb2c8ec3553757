"""The gateway: the ASGI application that passes requests on to instances, in front of Django's handler.

POST /api/instances/NAME/dispatch goes to the label `dispatch-path`. Any method at /api/instances/NAME/proxy/PATH?QUERY
goes to that path and query. Access is decided on the headers; nothing is held whole.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote

from django.db import DatabaseError
from django.http import HttpRequest

from access.identity.logins import is_trusted_proxy
from access.identity.tokens import TokenUser
from access.middleware import send_response
from access.permissions import DISPATCH
from access.problems import ProblemResponse, csrf_problem, refusal
from lifecycle import assembly, tracing
from lifecycle.api.answers import can_be_a_name, database_problem, problem_of, unknown
from lifecycle.api.callers import order_of
from lifecycle.dispatch.body import Body
from lifecycle.dispatch.delivery import Work
from lifecycle.dispatch.dispatcher import AgentSocket, Answer
from lifecycle.dispatch.headers import Hop, LeadsElsewhere
from lifecycle.dispatch.in_flight.draining import draining_problem, work_in_flight
from lifecycle.exceptions import (
    AgentBrokeOff,
    AgentTooSlow,
    Disabled,
    EngineUnreachable,
    LabelError,
    LifecycleError,
    StartFailed,
)
from lifecycle.orders import Order, Trigger
from lifecycle.signals import dispatched

logger = logging.getLogger(__name__)

ADDRESS = re.compile(rb"(/api/instances/([^/]+))/(?:(dispatch)|proxy(/.*))", re.DOTALL)
#: What stays as it was written in the path and query for an agent: every printable character of ASCII but `#`.
AS_WRITTEN = "".join(map(chr, range(0x21, 0x7F))).replace("#", "")
#: Methods that are about the hops between caller and agent. They are passed to no agent.
NOT_PASSED = ("CONNECT", "TRACE")
#: The codes of problems that only an instance which is known can have.
CODES_OF_KNOWN = frozenset(
    error.code for error in (AgentBrokeOff, AgentTooSlow, Disabled, EngineUnreachable, LabelError, StartFailed)
)


@dataclass(frozen=True)
class Address:
    """The instance that an address of the gateway names, and what is asked of it."""

    name: str
    #: The path of ours that is the root of the agent, as it was written.
    prefix: str
    #: The path at the agent. None: its dispatch-path.
    path: str | None
    query: str

    @classmethod
    def of_scope(cls, scope: Any) -> "Address | None":
        """Return the address, or None if the path is written in another way, for example with `%2F`."""
        base = scope["root_path"]
        found = ADDRESS.fullmatch(scope["raw_path"].removeprefix(base.encode()))
        if not found:
            return None
        root, name, _, path = found.groups()
        prefix = f"{base}{root.decode('latin-1')}/proxy"
        query = quote(scope["query_string"], safe=AS_WRITTEN)
        return cls(unquote(name), prefix, None if path is None else quote(path, safe=AS_WRITTEN), query)

    @property
    def methods(self) -> str:
        """The methods that are not refused, for the header `Allow`."""
        return "POST" if self.path is None else "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

    def takes(self, method: str) -> bool:
        """Return whether work may be sent here with this method."""
        return method == "POST" if self.path is None else method not in NOT_PASSED

    def target(self) -> str | None:
        """Return the path and query at the agent. None: its dispatch-path."""
        if self.path is None:
            return None
        return f"{self.path}?{self.query}" if self.query else self.path


class Gateway:
    """ASGI application, to be wrapped by `access.middleware.AsgiAccess`."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer with the agent's answer, or with a problem.

        Raises AgentBrokeOff if the answer has begun: then the server must close the connection.
        """
        body = Body(receive, is_empty=_has_no_body(scope), waits_for_continue=_waits_for_continue(scope))
        with tracing.serve(scope) as span, work_in_flight.one():
            async with body.watched():
                await _answer(scope, body, send, span)


async def _answer(scope: Any, body: Body, send: Any, span: tracing.RequestSpan) -> None:
    began = time.monotonic()
    passed = await _ask(scope, body, span)
    if isinstance(passed, ProblemResponse):
        note_dispatch(scope, passed, began, span)
        await send_response(passed, send)
        return
    try:
        note_dispatch(scope, passed.answer, began, span)
        await passed.send(send)
    except asyncio.CancelledError:
        if work_in_flight.is_draining and not body.caller_is_gone:
            passed.answer.report_cut_off()
        raise
    finally:
        passed.answer.close()


@dataclass(frozen=True)
class PassedAnswer:
    """An agent's answer, with the headers that its caller gets."""

    answer: Answer
    headers: list[tuple[bytes, bytes]]

    @classmethod
    def of(cls, answer: Answer, hop: Hop) -> "PassedAnswer":
        """Return what passes of an answer. Raises AgentBrokeOff if it cannot pass."""
        try:
            headers = hop.to_caller(answer.raw_headers, answer.url)
        except LeadsElsewhere:
            error = answer.broke_off(AgentBrokeOff.status, "its Location leads to Dormouse itself, or cannot be read")
            answer.close()
            raise error from None
        except BaseException:
            answer.close()  # else its lease would keep the agent awake for ever
            raise
        if answer.status == HTTPStatus.NO_CONTENT:
            headers = [(name, value) for name, value in headers if name != b"content-length"]
        headers.append((b"dormouse-run", str(answer.run).encode()))
        if answer.wake_ms is not None:
            headers.append((b"server-timing", f"wake;dur={answer.wake_ms}".encode()))
        return cls(answer, headers)

    async def send(self, send: Any) -> None:
        """Send the answer as it comes."""
        await send({"type": "http.response.start", "status": self.answer.status, "headers": self.headers})
        async for part in self.answer:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _ask(scope: Any, body: Body, span: tracing.RequestSpan) -> PassedAnswer | ProblemResponse:
    """Decide access on the headers, and return the agent's answer when its head has come, or a problem."""
    method = scope["method"]
    try:
        admitted = await admit(scope, span, forgery=_forgery, takes=lambda address: address.takes(method))
        if isinstance(admitted, ProblemResponse):
            return admitted
        address, hop = admitted.address, admitted.hop
        headers = hop.to_agent(scope["headers"])
        work = Work(headers, body, method, address.target(), address.query, admitted.order)
        dispatcher = await assembly.dispatcher()
        return PassedAnswer.of(await dispatcher.dispatch(address.name, work), hop)
    except LifecycleError as error:
        return problem_of(error)
    except DatabaseError as error:
        logger.error("%r: the work was not dispatched, because the database cannot be used: %s", scope["path"], error)
        return database_problem()


def note_dispatch(scope: Any, answer: Answer | AgentSocket | ProblemResponse, began: float, span: tracing.Span) -> None:
    """Tell metrics and the trace of an answer whose head is there. The dispatch began at the monotonic time."""
    address = Address.of_scope(scope)
    name = address.name if address else ""
    if isinstance(answer, ProblemResponse):
        span.note_status(answer.status_code)
        is_known = answer.get("Dormouse-Error") in CODES_OF_KNOWN
        dispatched.send(None, instance=name if is_known else "", status=answer.status_code)
    else:
        span.note_status(answer.status)
        times = {"overhead_seconds": answer.sent_at - began}
        if answer.wake_ms is not None:
            times["wake_seconds"] = answer.wake_ms / 1000
        dispatched.send(None, instance=name, status=answer.status, **times)


def _forgery(request: HttpRequest, address: Address) -> ProblemResponse | None:
    """Return the problem of a request with a session that another site may have made."""
    return csrf_problem(request, safe_methods_too=address.path is not None)


@dataclass(frozen=True)
class Admitted:
    """A request that may be passed on."""

    address: Address
    hop: Hop
    order: Order


async def admit(
    scope: Any,
    span: tracing.RequestSpan,
    *,
    forgery: Callable[[HttpRequest, Address], ProblemResponse | None],
    takes: Callable[[Address], bool],
) -> Admitted | ProblemResponse:
    """Decide on the headers whether a request may be passed on: the access first, then what it asks.

    Args:
        scope: the ASGI scope, as `access.middleware.AsgiAccess` makes it.
        span: begins if the request may be passed on. So no stranger can make spans.
        forgery: returns the problem of a request with a session that another site may have made.
        takes: returns whether the address can be asked this.
    """
    request, has_perm = scope.pop("request"), scope.pop("has_perm")
    address = Address.of_scope(scope)
    user, permitted = await has_perm(DISPATCH)
    refused = refusal(user, permitted, DISPATCH, *([address.name] if address else []))
    if refused or address is None:
        return refused or problem_of(unknown(request.path))
    if not isinstance(user, TokenUser):
        refused = forgery(request, address)
    if refused is None and not takes(address):
        refused = ProblemResponse(405, f"This address takes {address.methods}.", code="method_not_allowed")
        refused["Allow"] = address.methods
    if refused is None and not can_be_a_name(address.name):
        refused = problem_of(unknown(address.name))
    if refused is None and work_in_flight.is_draining:
        refused = draining_problem()
    if refused:
        return refused
    span.begin()
    return Admitted(address, _hop_of(address, request, scope), order_of(request, user, Trigger.DISPATCH))


def _hop_of(address: Address, request: HttpRequest, scope: Any) -> Hop:
    """Return what the headers in both directions depend on."""
    client = (scope.get("client") or [""])[0]
    return Hop(
        client=client,
        is_trusted=is_trusted_proxy(client),
        scheme=request.scheme or "http",
        host=request.get_host(),
        prefix=address.prefix,
        passes_authorization="HTTP_DORMOUSE_TOKEN" in request.META,
    )


def _has_no_body(scope: Any) -> bool:
    """Return whether the headers say that there is no body."""
    headers = dict(scope["headers"])
    return b"transfer-encoding" not in headers and headers.get(b"content-length", b"0").strip(b"0") == b""


def _waits_for_continue(scope: Any) -> bool:
    return bool(dict(scope["headers"]).get(b"expect", b"").lower() == b"100-continue")
