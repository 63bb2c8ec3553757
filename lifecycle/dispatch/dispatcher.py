"""Dispatching work to an instance: deliver it, and bring the agent's answer back as it comes."""

import asyncio
import errno
from collections.abc import AsyncIterator
from http import HTTPStatus
from weakref import WeakKeyDictionary

import aiohttp

from lifecycle import tracing
from lifecycle.agent_http import failure_reason
from lifecycle.dispatch.agent_client import AgentClient, BeforeSending, HandshakeRefused
from lifecycle.dispatch.delivery import Delivery, Passed, Work
from lifecycle.dispatch.wakes import Wakes
from lifecycle.exceptions import AgentBrokeOff, AgentTooSlow

#: What is told of work that this process breaks off at its end.
CUT_OFF = ("was cut off", "Dormouse has ended")

#: With what a connection ends whose other machine does not answer any more.
LOST = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)


class Answer:
    """The agent's answer, as it comes. `close` must be called, however it ends."""

    def __init__(self, response: aiohttp.ClientResponse, delivery: Delivery[aiohttp.ClientResponse]) -> None:
        self.status = response.status
        self.raw_headers = response.raw_headers
        #: The URL that was asked.
        self.url = str(response.url)
        self.wake_ms = delivery.wake_ms
        #: The number of the agent's latest start.
        self.run = delivery.leased.run if delivery.leased else 0
        #: When the work was sent, on the monotonic clock.
        self.sent_at = delivery.sent_at
        self._response = response
        self._delivery = delivery
        self._closed = _closed_connection(response) if self._ends_with_connection else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body's parts as they come. Raises AgentBrokeOff if it ends too early."""
        try:
            async for part in self._response.content.iter_any():
                yield part
        except aiohttp.ClientError as error:
            raise self.broke_off(self.status, await self._delivery.why_asleep() or failure_reason(error)) from error
        if self._ends_with_connection:
            why_broken = await self._delivery.why_asleep() or self._why_lost()
            if why_broken:
                raise self.broke_off(self.status, why_broken)
        if self.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self._delivery.note_success()

    @property
    def _ends_with_connection(self) -> bool:
        """True if the end of the connection is the end of the body, so that a break looks like a whole body."""
        has_body = self._response.method != "HEAD" and self.status not in (
            HTTPStatus.NO_CONTENT,
            HTTPStatus.NOT_MODIFIED,
        )
        return has_body and not {b"content-length", b"transfer-encoding"} & {
            name.lower() for name, _ in self.raw_headers
        }

    def _why_lost(self) -> str:
        """Return why the machine at the other end counts as lost, or an empty text if the connection was closed."""
        error = self._closed.exception() if self._closed is not None and self._closed.done() else None
        reason = error.__cause__ if error else None
        return failure_reason(reason) if isinstance(reason, OSError) and reason.errno in LOST else ""

    def broke_off(self, status: int, why: str) -> AgentBrokeOff:
        """Report that the agent broke off and that the caller got `status`. Return the error to raise."""
        self._delivery.report(status, "broke off", why)
        return AgentBrokeOff(self._delivery.name, why)

    def report_cut_off(self) -> None:
        """Report that this process ends before the answer has."""
        self._delivery.report(self.status, *CUT_OFF)

    def close(self) -> None:
        """Give the lease back, and close the connection unless the answer has come to its end."""
        self._response.close()
        self._delivery.give_back()


class AgentSocket:
    """An open WebSocket of the agent's. `close` must be called, however it ends."""

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, delivery: Delivery[aiohttp.ClientWebSocketResponse]
    ) -> None:
        self.socket = socket
        #: The number of the agent's latest start.
        self.run = delivery.leased.run if delivery.leased else 0
        self.status = HTTPStatus.SWITCHING_PROTOCOLS
        self.wake_ms = delivery.wake_ms
        #: When the handshake was sent, on the monotonic clock.
        self.sent_at = delivery.sent_at
        self._delivery = delivery

    async def report_end(self, *, is_broken: bool) -> None:
        """Report that the agent broke off, if it did so or a person has put it to sleep."""
        why_asleep = await self._delivery.why_asleep()
        if is_broken or why_asleep:
            self._delivery.report(self.status, "broke off", why_asleep)
        else:
            self._delivery.note_success()

    async def close(self) -> None:
        """Give the lease back, and close the WebSocket if it is open."""
        self._delivery.give_back()
        await self.socket.close()


class Dispatcher:
    """Dispatches from coroutines."""

    def __init__(self, wakes: Wakes) -> None:
        self._wakes = wakes
        #: By event loop.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AgentClient] = WeakKeyDictionary()

    async def dispatch(self, name: str, work: Work) -> Answer:
        """Return the agent's answer when its head has come. A cancelled call leaves nothing behind.

        Raises UnknownInstance, LabelError, StartFailed, EngineUnreachable, AgentBrokeOff and AgentTooSlow.
        """
        client = self._client()

        async def send(url: str, before_sending: BeforeSending) -> aiohttp.ClientResponse:
            with tracing.forward(work.method, url) as span:
                headers = tracing.add_traceparent(work.headers)
                response = await client.send(work.method, url, headers, await work.content(), before_sending)
                span.note_status(response.status)
                return response

        delivery = Delivery(self._wakes, name, work, send)
        response = await _deliver(delivery)
        answer = Answer(response, delivery)
        why_not = _why_not_passable(response)
        if why_not:
            broke_off = answer.broke_off(AgentBrokeOff.status, why_not)
            answer.close()
            raise broke_off
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            delivery.report(answer.status, f"answered {answer.status}")
        return answer

    async def open_web_socket(self, name: str, work: Work, protocols: list[str]) -> AgentSocket:
        """Return a WebSocket of the agent's. A cancelled call leaves nothing behind.

        Raises the same errors as `dispatch`, and HandshakeRefused.
        """
        client = self._client()

        async def send(url: str, before_sending: BeforeSending) -> aiohttp.ClientWebSocketResponse:
            with tracing.forward(work.method, url):
                headers = tracing.add_traceparent(work.headers)
                return await client.open_web_socket(url, headers, protocols, before_sending)

        delivery = Delivery(self._wakes, name, work, send)
        return AgentSocket(await _deliver(delivery), delivery)

    async def close_connections(self) -> None:
        """Close the connections of this event loop to agents."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client:
            await client.close()

    def shut_down(self) -> None:
        """Wait until the leases of dispatches that have ended are given back."""
        self._wakes.shut_down()

    def _client(self) -> AgentClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = AgentClient()
        return self._clients[loop]


async def _deliver(delivery: Delivery[Passed]) -> Passed:
    """Deliver work. If it fails, report what the agent has done wrong, and give the lease back."""
    try:
        return await delivery.deliver()
    except BaseException as error:
        if isinstance(error, AgentBrokeOff):
            delivery.report(error.status, "broke off", error.error)
        if isinstance(error, AgentTooSlow):
            delivery.report(error.status, "had not begun its answer")
        if isinstance(error, asyncio.CancelledError) and delivery.is_cut_off():
            delivery.report(HTTPStatus.SERVICE_UNAVAILABLE, *CUT_OFF)
        if isinstance(error, HandshakeRefused) and error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            delivery.report(error.status, f"answered {error.status}")
        delivery.give_back()
        raise


def _closed_connection(response: aiohttp.ClientResponse) -> asyncio.Future[None] | None:
    """Return what will say how the connection of an answer ended. None: it has ended already."""
    protocol = response.connection.protocol if response.connection is not None else None
    closed: asyncio.Future[None] | None = protocol.closed if protocol is not None else None
    if closed is not None:
        closed.add_done_callback(lambda done: done.cancelled() or done.exception())  # else asyncio logs it
    return closed


def _why_not_passable(response: aiohttp.ClientResponse) -> str:
    """Return why an answer cannot be passed on, or an empty text.

    An answer whose length is not clear could become part of the next one.
    """
    lengths = [value for name, value in response.raw_headers if name.lower() == b"content-length"]
    codings = [value for name, value in response.raw_headers if name.lower() == b"transfer-encoding"]
    if not 200 <= response.status < 600:
        return f"its answer has the status {response.status}, which HTTP does not know"
    if len(lengths) > 1 or (lengths and codings):
        return "its answer says twice how long it is"
    if codings and [coding.lower() for coding in codings] != [b"chunked"]:
        return f"its answer has the transfer coding {codings[0].decode('latin-1')!r}, which cannot be read"
    if any(set(b"\r\n\0") & set(name + value) for name, value in response.raw_headers):
        return "its answer has a header with a line break"
    return ""
