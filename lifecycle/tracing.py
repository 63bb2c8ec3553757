"""The places of the code at which the spans of a dispatch begin and end.

`telling.traces` sets `tracer` if traces are wanted. Without it each call costs one comparison.
"""

import re
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, Protocol

#: A header `traceparent` (W3C Trace Context).
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

Headers = list[tuple[str, str]]


class Span(Protocol):
    """A span that is under way."""

    def note_status(self, status: int) -> None:
        """Note the HTTP status of the answer."""


class RequestSpan(Span, Protocol):
    """The span of a caller's request."""

    def begin(self) -> None:
        """Begin the span, because the caller may dispatch. Requests that are refused have none."""


class Tracer(Protocol):
    """Makes spans, each the child of the one that is current."""

    def serve(self, scope: dict[str, Any]) -> AbstractContextManager[RequestSpan]:
        """Surround a request of a caller. Its span begins with `begin`, and continues the caller's trace."""

    def forward(self, method: str, url: str) -> AbstractContextManager[Span]:
        """Surround a request to an agent."""

    def step(self, name: str, agent: str) -> AbstractContextManager[Span]:
        """Surround a step in between."""

    def add_traceparent(self, headers: Headers) -> Headers:
        """Return the headers with the current span as the parent."""

    def flush(self, milliseconds: int) -> None:
        """Send the spans that have ended. Wait so long at most."""


class _NoSpan:
    def begin(self) -> None:
        """Do nothing."""

    def note_status(self, status: int) -> None:
        """Do nothing."""


NOTHING = nullcontext(_NoSpan())
#: None: there are no traces.
tracer: Tracer | None = None
#: The id of the trace that this task or thread works in. It outlives the span. Empty: there is none.
trace_id: ContextVar[str] = ContextVar("trace_id", default="")


def serve(scope: dict[str, Any]) -> AbstractContextManager[RequestSpan]:
    """Surround a dispatch with a span. Without a tracer, only note the id of the caller's trace."""
    for name, value in scope["headers"]:
        if name == b"traceparent":
            trace_id.set(read_trace_id(value.decode("latin-1")))
    return tracer.serve(scope) if tracer is not None else NOTHING


def forward(method: str, url: str) -> AbstractContextManager[Span]:
    """Surround a request to an agent with a span."""
    return tracer.forward(method, url) if tracer is not None else NOTHING


def step(name: str, agent: str) -> AbstractContextManager[Span]:
    """Surround a step of a dispatch with a span."""
    return tracer.step(name, agent) if tracer is not None else NOTHING


def add_traceparent(headers: Headers) -> Headers:
    """Return the headers for an agent: with the current span as the parent, if there is a tracer."""
    return tracer.add_traceparent(headers) if tracer is not None else headers


def read_trace_id(traceparent: str) -> str:
    """Return the id of the trace in a header `traceparent`, or an empty text."""
    found = TRACEPARENT.fullmatch(traceparent)
    return found[1] if found else ""
