"""Hands work to an instance: wakes it, forwards the body, and brings the agent's answer back as it comes."""

import asyncio
import logging
import time
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx

from lifecycle.agent_http import agent_client
from lifecycle.dispatch.wakes import Waker
from lifecycle.engines.labels import PREFIX
from lifecycle.exceptions import LabelError, LifecycleError
from lifecycle.transitions.lifecycle import Grant
from lifecycle.transitions.readiness import reason, url

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10
#: Of an agent's answer; what concerns the connection alone, and cookies on our origin, stay behind.
ANSWER_HEADERS = (
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-disposition",
    "retry-after",
)


@dataclass(eq=False)
class AgentBrokeOff(LifecycleError):
    """The agent did not answer, or not to its end."""

    instance: str
    error: str

    def __str__(self) -> str:
        return f"{self.instance} broke off: {self.error}"


@dataclass(eq=False)
class AgentTooSlow(LifecycleError):
    """The agent did not begin its answer within its dispatch-timeout."""

    instance: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.instance} did not begin its answer within {self.seconds:g} s"


@dataclass(frozen=True)
class Work:
    """What is dispatched: a body, read as it is forwarded, and its type. The length in bytes, where it is known."""

    body: AsyncIterator[bytes]
    content_type: str
    length: str | None = None

    def headers(self) -> dict[bytes, bytes]:
        """In the bytes that came: a type may hold any of them."""
        found = {b"accept-encoding": b"identity"}
        if self.content_type:
            found[b"content-type"] = self.content_type.encode("latin-1", "replace")
        if self.length is not None:
            found[b"content-length"] = self.length.encode("latin-1", "replace")
        return found


class Answer:
    """The agent's answer as it comes. Whoever got it closes it, from any thread: that ends connection and lease."""

    def __init__(self, response: httpx.Response, wake_ms: int | None, instance: str) -> None:
        self.status = response.status_code
        self.headers = {name: response.headers[name] for name in ANSWER_HEADERS if name in response.headers}
        #: How long this dispatch waited for the instance to wake; None where it was ready.
        self.wake_ms = wake_ms
        self._response = response
        self._instance = instance

    def ends_with(self, finish: Callable[[], object]) -> None:
        """`finish` is called once: by `close`, or when nobody holds the answer any more."""
        self.close = weakref.finalize(self, finish)
        self.close.atexit = False  # a dead worker's leases are ended by others

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.aiter_raw():
                yield chunk
        except httpx.HTTPError as error:
            raise AgentBrokeOff(self._instance, reason(error)) from error
        finally:
            self.close()  # Django does not, where an answer breaks off


class Dispatcher:
    """Dispatches from coroutines. `transport` is what reaches the agents, by default the network."""

    def __init__(self, waker: Waker, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._waker = waker
        self._transport = transport

    async def dispatch(self, name: str, work: Work) -> Answer:
        """The beginning of the agent's answer.

        Raises as `Lifecycle.use`, AgentBrokeOff and AgentTooSlow. A cancelled call leaves nothing behind.
        """
        began = time.monotonic()
        grant, woken = await self._waker.acquire(name)
        wake_ms = int((time.monotonic() - began) * 1000) if woken else None
        client = agent_client(transport=self._transport, timeout=httpx.Timeout(None, connect=CONNECT_SECONDS))
        loop = asyncio.get_running_loop()

        def finish() -> None:
            self._waker.give_back(grant.lease)
            if not loop.is_closed():
                asyncio.run_coroutine_threadsafe(client.aclose(), loop)

        try:
            answer = Answer(await _ask(client, grant, work), wake_ms, name)
        except BaseException:
            finish()
            raise
        answer.ends_with(finish)
        return answer


async def _ask(client: httpx.AsyncClient, grant: Grant, work: Work) -> httpx.Response:
    """The agent's answer, of which only the head has come."""
    name, labels = grant.seen.name, grant.seen.settings()
    if grant.seen.address is None:
        raise LabelError(name, f"{PREFIX}port", "", "is not set: there is no port to dispatch to")
    target = url(grant.seen.address, labels.dispatch_path)
    seconds = labels.dispatch_timeout.total_seconds() if labels.dispatch_timeout else None
    request = client.build_request("POST", target, content=work.body, headers=work.headers())
    try:
        async with asyncio.timeout(seconds):
            response = await client.send(request, stream=True)
    except TimeoutError as error:
        raise AgentTooSlow(name, seconds or 0) from error
    except httpx.HTTPError as error:
        raise AgentBrokeOff(name, reason(error)) from error
    if response.status_code >= 600:
        raise AgentBrokeOff(name, f"its answer has the status {response.status_code}, which HTTP does not know")
    return response
