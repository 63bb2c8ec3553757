"""One piece of work on its way to an agent.

First a connection is made, then the instance is looked at and leased, then the connection is looked at, and only then
the work is sent. So an agent that was just ending is told apart, and work never goes to another container that has got
its address.
"""

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from lifecycle import tracing
from lifecycle.agent_http import NotDelivered, SendFailed, agent_url
from lifecycle.clock import milliseconds
from lifecycle.dispatch.agent_client import BeforeSending
from lifecycle.dispatch.body import Body
from lifecycle.dispatch.in_flight.draining import work_in_flight
from lifecycle.dispatch.in_flight.shared_leases import Leased
from lifecycle.dispatch.wakes import Wakes
from lifecycle.engines.base import Inspection
from lifecycle.engines.labels import PREFIX
from lifecycle.exceptions import AgentBrokeOff, AgentTooSlow, LabelError
from lifecycle.orders import DISPATCH, Order

#: Methods that change nothing. They may be sent again if a connection broke that had been kept since an earlier answer.
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


@dataclass(frozen=True)
class Work:
    """A piece of work: a request for an agent."""

    headers: list[tuple[str, str]]
    body: Body
    method: str = "POST"
    #: The path and query at the agent. None: those of its label `dispatch-path`.
    target: str | None = None
    #: What is added to the query of `dispatch-path`.
    query: str = ""
    #: Who ordered it, and what for.
    order: Order = DISPATCH

    async def content(self) -> bytes | AsyncIterable[bytes] | None:
        """Return the body as the client sends it: with a length if that is known or soon will be, else in chunks."""
        if self.body.is_empty:
            return None
        if any(name == "content-length" for name, _ in self.headers):
            return self.body.parts()
        whole = await self.body.gather()
        return self.body.parts() if whole is None else whole

    @property
    def trace_id(self) -> str:
        """The id of the trace, or an empty text: of the caller's, or of Dormouse's if it traces (W3C Trace Context)."""
        given = next((value for name, value in self.headers if name == "traceparent"), "")
        return tracing.trace_id.get() or tracing.read_trace_id(given)

    def url_at(self, seen: Inspection) -> str:
        """Return the URL of the agent's that gets this work. Raises LabelError if the agent has no port."""
        if seen.address is None:
            raise LabelError(seen.name, f"{PREFIX}port", "", "is not set: there is no port to dispatch to")
        if self.target is not None:
            return agent_url(seen.address, self.target)
        path = seen.settings().dispatch_path
        added = f"{'&' if '?' in path else '?'}{self.query}" if self.query else ""
        return agent_url(seen.address, path + added)


class _InstanceChanged(NotDelivered):
    """The instance is not what it was when the connection was made."""


#: What an agent gives back: an answer or a WebSocket.
Passed = TypeVar("Passed")
Send = Callable[[str, BeforeSending], Awaitable[Passed]]


class Delivery(Generic[Passed]):
    """Wakes an instance, leases it, and sends it one piece of work.

    `send(url, before_sending)` sends the work on a connection, and returns the agent's answer or its WebSocket.
    """

    def __init__(self, wakes: Wakes, name: str, work: Work, send: Send[Passed]) -> None:
        self.name = name
        self.leased: Leased | None = None
        #: How long this dispatch waited for the instance to wake, in ms. None: it was ready.
        self.wake_ms: int | None = None
        self._wakes = wakes
        self._send = send
        self._work = work
        self._began = self.sent_at = time.monotonic()
        self._is_kept_connection = False

    async def deliver(self) -> Passed:
        """Return the agent's answer when its head has come. If nothing could be sent, wake the agent again, once.

        Work that a person breaks off is not sent again, whatever it is.

        Raises UnknownInstance, LabelError, StartFailed, EngineUnreachable, AgentBrokeOff and AgentTooSlow.
        """
        is_last_try = False
        while True:
            try:
                return await self._try()
            except (NotDelivered, SendFailed) as error:
                has_changed = isinstance(error, _InstanceChanged)
                why_asleep = await self.why_asleep()
                if why_asleep or not (has_changed or (self._may_try_again(error) and not is_last_try)):
                    raise AgentBrokeOff(self.name, why_asleep or str(error)) from error
                is_last_try = is_last_try or not has_changed
            self.give_back()
            await self._wakes.wake(self.name, self._work.order)
            self.wake_ms = milliseconds(time.monotonic() - self._began)

    def report(self, status: int, what: str, why: str = "") -> None:
        """Report that this work has failed, with the status that its caller got.

        The caller's own end is no failure of the agent.
        """
        seconds = time.monotonic() - self.sent_at
        if self.leased:
            self.leased.hold.broke_off = what == "broke off"
        error = f"{what} after {round(seconds, 1):g} s" + (f": {why}" if why else "")
        more = self._work.order.caller() | ({"trace_id": self._work.trace_id} if self._work.trace_id else {})
        self._wakes.work_failures.report(self.name, status=int(status), error=error, seconds=seconds, **more)

    def note_success(self) -> None:
        """Note that the answer has come to its end."""
        self._wakes.note_success(self.name)

    async def why_asleep(self) -> str:
        """Return by whose order the instance was put to sleep while it worked, or an empty text."""
        return await self._wakes.why_asleep(self.leased) if self.leased else ""

    def is_cut_off(self) -> bool:
        """Return whether a cancelled delivery was cancelled because this process ends, and not by its caller."""
        return self.leased is not None and work_in_flight.is_draining and not self._work.body.caller_is_gone

    def give_back(self) -> None:
        """Give the lease back, if there is one."""
        if self.leased:
            self._wakes.give_back(self.leased)
            self.leased = None

    def _may_try_again(self, error: NotDelivered | SendFailed) -> bool:
        is_safe = self._work.method in SAFE_METHODS and self._work.body.is_empty
        return isinstance(error, NotDelivered) or (is_safe and self._is_kept_connection)

    async def _try(self) -> Passed:
        """Return the answer when its head has come. Raises NotDelivered and SendFailed."""
        seen, was_woken = await self._wakes.find_ready(self.name, self._work.order)
        if was_woken:
            self.wake_ms = milliseconds(time.monotonic() - self._began)
        timeout, body = seen.settings().dispatch_timeout, self._work.body
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as deadline:
                if timeout:
                    body.on_complete = lambda: deadline.reschedule(loop.time() + timeout.total_seconds())
                return await self._send(self._work.url_at(seen), partial(self._before_sending, seen))
        except TimeoutError as error:
            raise AgentTooSlow(self.name, timeout.total_seconds() if timeout else 0) from error
        finally:
            body.on_complete = lambda: None

    async def _before_sending(self, seen: Inspection, is_kept_connection: bool) -> None:
        self._is_kept_connection = is_kept_connection
        await self._lease(seen)
        if self._work.body.is_complete:
            self._work.body.on_complete()

    async def _lease(self, seen: Inspection) -> None:
        """Take a lease. Raises NotDelivered if the instance is not the one that was connected to."""
        is_kept = self._is_kept_connection
        self.leased = await self._wakes.take_lease(self.name, self._work.order, is_kept_connection=is_kept)
        self.sent_at = time.monotonic()
        if self.leased is None or not _is_same(self.leased.seen, seen):
            raise _InstanceChanged("it changed while it was connected to")


def _is_same(one: Inspection, other: Inspection) -> bool:
    """Return whether `one`, the later inspection, shows the same incarnation, reached and asked in the same way.

    The other one may be reached at another task of the same service.
    """
    is_reached = one.address == other.address or any(other.address in task for task in one.tasks)
    return is_reached and (one.incarnation, one.labels) == (other.incarnation, other.labels)
