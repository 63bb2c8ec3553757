"""Dispatching work to an instance: wake it, forward the body, and bring the agent's answer back as it comes."""

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from http import HTTPStatus

import httpx

from lifecycle.agent_http import agent_client, agent_url, failure_reason
from lifecycle.clock import milliseconds
from lifecycle.dispatch.wakes import Wakes
from lifecycle.engines.labels import PREFIX
from lifecycle.exceptions import AgentBrokeOff, AgentTooSlow, LabelError
from lifecycle.transitions.leases import LeasedInstance
from lifecycle.transitions.orders import DISPATCH, Order

CONNECT_SECONDS = 10
#: The headers of an agent's answer that pass. Headers about the connection, and cookies for our origin, do not.
ANSWER_HEADERS = (
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-disposition",
    "retry-after",
)


@dataclass(frozen=True)
class Work:
    """A piece of work: a body that is read while it is forwarded, its content type, and its length if known."""

    body: AsyncIterator[bytes]
    content_type: str
    #: In bytes, as the header has it.
    length: str | None = None

    def headers(self) -> dict[bytes, bytes]:
        """Return the request's headers, in the bytes that came: a content type may hold any byte."""
        found = {b"accept-encoding": b"identity"}
        if self.content_type:
            found[b"content-type"] = self.content_type.encode("latin-1", "replace")
        if self.length is not None:
            found[b"content-length"] = self.length.encode("latin-1", "replace")
        return found


class Answer:
    """The agent's answer, as it comes. To close it, from any thread, ends the connection and the lease."""

    def __init__(
        self, response: httpx.Response, wake_ms: int | None, instance: str, report: Callable[..., None]
    ) -> None:
        self.status = response.status_code
        self.headers = {name: response.headers[name] for name in ANSWER_HEADERS if name in response.headers}
        #: How long this dispatch waited for the instance to wake, in ms. None: it was ready.
        self.wake_ms = wake_ms
        self._response = response
        self._instance = instance
        self._report = report

    def on_close(self, finish: Callable[[], object]) -> None:
        """Call `finish` once: by `close`, or when the answer is garbage-collected."""
        self.close = weakref.finalize(self, finish)
        self.close.atexit = False  # other workers end the leases of a dead worker

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body's parts as they come. Raises AgentBrokeOff if it ends too early."""
        try:
            async for chunk in self._response.aiter_raw():
                yield chunk
        except httpx.HTTPError as error:
            self._report(self.status, "broke off", failure_reason(error))
            raise AgentBrokeOff(self._instance, failure_reason(error)) from error
        finally:
            self.close()  # Django does not close an answer that breaks off


class Dispatcher:
    """Dispatches from coroutines. `transport` reaches the agents; by default that is the network."""

    def __init__(self, wakes: Wakes, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._wakes = wakes
        self._transport = transport

    async def dispatch(self, name: str, work: Work, order: Order = DISPATCH) -> Answer:
        """Return the agent's answer when its head has come. A cancelled call leaves nothing behind.

        Raises UnknownInstance, LabelError, StartFailed, EngineUnreachable, AgentBrokeOff and AgentTooSlow.
        """
        began = time.monotonic()
        leased, was_woken = await self._wakes.acquire(name, order)
        wake_ms = milliseconds(time.monotonic() - began) if was_woken else None
        client = agent_client(transport=self._transport, timeout=httpx.Timeout(None, connect=CONNECT_SECONDS))
        loop = asyncio.get_running_loop()

        def finish() -> None:
            self._wakes.give_back(leased.lease)
            if not loop.is_closed():
                asyncio.run_coroutine_threadsafe(client.aclose(), loop)

        report = self._failures_of(leased, order)
        try:
            response = await _forward(client, leased, work)
            answer = Answer(response, wake_ms, name, report)
        except BaseException as error:
            if isinstance(error, AgentBrokeOff):
                report(error.status, "broke off", error.error)
            if isinstance(error, AgentTooSlow):
                report(error.status, "had not begun its answer")
            finish()
            raise
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            report(answer.status, f"answered {answer.status}")
        answer.on_close(finish)
        return answer

    def _failures_of(self, leased: LeasedInstance, order: Order) -> Callable[..., None]:
        """Return a function that reports that work which is sent now has failed, with the status that its caller got.

        The caller's own end is no failure of the agent.
        """
        began = time.monotonic()

        def report(status: int, what: str, why: str = "") -> None:
            seconds = time.monotonic() - began
            leased.lease.broke_off = what == "broke off"
            error = f"{what} after {round(seconds, 1):g} s" + (f": {why}" if why else "")
            self._wakes.work_failures.report(
                leased.seen.name, status=int(status), error=error, seconds=seconds, **order.caller()
            )

        return report

    def shut_down(self) -> None:
        """Wait until the leases of dispatches that have ended are given back."""
        self._wakes.shut_down()


async def _forward(client: httpx.AsyncClient, leased: LeasedInstance, work: Work) -> httpx.Response:
    """Send the work to the agent, and return its answer, of which only the head has come."""
    name, labels = leased.seen.name, leased.seen.settings()
    if leased.seen.address is None:
        raise LabelError(name, f"{PREFIX}port", "", "is not set: there is no port to dispatch to")
    target = agent_url(leased.seen.address, labels.dispatch_path)
    seconds = labels.dispatch_timeout.total_seconds() if labels.dispatch_timeout else None
    request = client.build_request("POST", target, content=work.body, headers=work.headers())
    try:
        async with asyncio.timeout(seconds):
            response = await client.send(request, stream=True)
    except TimeoutError as error:
        raise AgentTooSlow(name, seconds or 0) from error
    except httpx.HTTPError as error:
        raise AgentBrokeOff(name, failure_reason(error)) from error
    if response.status_code >= 600:
        raise AgentBrokeOff(name, f"its answer has the status {response.status_code}, which HTTP does not know")
    return response
