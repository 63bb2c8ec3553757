"""The spans of OpenTelemetry. Its packages are optional: `telling.traces` imports this module if traces are wanted.

The SDK samples, names the traces, batches the spans and sends them. The spans themselves are made here: the SDK's have
locks, and check and copy each attribute, which takes three times as long (docs/decisions/0063-traces.md).
"""

import os
import time
import traceback
from contextvars import ContextVar, Token
from functools import lru_cache
from typing import Any, Self
from urllib.parse import urlsplit

from django.conf import settings
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from lifecycle import tracing
from telling.otel_encoding import EndedSpan, HashedResource, make_exporter

Attributes = dict[str, str | int]
#: The default of OTEL_PROPAGATORS. Dormouse has no baggage of its own, and passes on that of callers.
W3C = "tracecontext,baggage"

#: The span that this task or thread works in. None: it works in none.
current: ContextVar[trace.SpanContext | None] = ContextVar("span", default=None)


class OpenTelemetry:
    """A `lifecycle.tracing.Tracer` whose spans go to a collector, from a thread of their own.

    The SDK reads the variables of its specification by itself: the sampler, the headers and timeouts of the exporter.
    """

    def __init__(self, attributes: Attributes) -> None:
        self.resource = HashedResource(Resource.create(attributes))
        self.scope = InstrumentationScope("dormouse", settings.DORMOUSE_VERSION)
        self.processor = BatchSpanProcessor(make_exporter())
        self._provider = TracerProvider(resource=self.resource)
        self._provider.add_span_processor(self.processor)
        self.sampler = self._provider.sampler
        self.new_ids = self._provider.id_generator
        self.max_length = SpanLimits().max_span_attribute_length
        #: Whether `traceparent` is the only header that the SDK would make. To ask it takes five times as long.
        self._is_w3c = os.environ.get("OTEL_PROPAGATORS", W3C) == W3C
        #: The headers that say to which trace a request belongs.
        self._fields = frozenset(name.lower().encode() for name in propagate.get_global_textmap().fields)

    def serve(self, scope: dict[str, Any]) -> "RequestSpan":
        """Surround a request of a caller. Its span begins with `begin`, and continues the caller's trace."""
        return RequestSpan(self, scope)

    def forward(self, method: str, url: str) -> "OtelSpan":
        """Surround a request to an agent, until the head of its answer."""
        full = url.partition("?")[0]  # a query may hold secrets
        host, port = _server_of(full)
        attributes: Attributes = {"http.request.method": method, "server.address": host, "server.port": port}
        attributes["url.full"] = full
        return OtelSpan(self, method, trace.SpanKind.CLIENT, attributes)

    def step(self, name: str, agent: str) -> "OtelSpan":
        """Surround a step in between."""
        return OtelSpan(self, name, trace.SpanKind.INTERNAL, {"dormouse.agent": agent})

    def add_traceparent(self, headers: tracing.Headers) -> tracing.Headers:
        """Return the headers with the current span as the parent."""
        span = current.get()
        if span is None:
            return headers
        ours: dict[str, str] = {}
        if self._is_w3c and not span.trace_state:
            ours["traceparent"] = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
        else:
            propagate.inject(ours, trace.set_span_in_context(trace.NonRecordingSpan(span), Context()))
        return [header for header in headers if header[0].lower() not in ours] + list(ours.items())

    def flush(self, milliseconds: int) -> None:
        """Send the spans that have ended. Wait so long at most."""
        self._provider.force_flush(milliseconds)

    def parent_of(self, scope: dict[str, Any]) -> Context:
        """Return a context with the caller's span, if the headers name one."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"] if name in self._fields
        }
        return propagate.extract(headers, Context()) if headers else Context()


class OtelSpan:
    """A span that is current within its block. An answer with the status `FIRST_ERROR` or more makes it an error.

    It is a child of the span that is current when its block begins. Without one, nothing is traced.
    """

    FIRST_ERROR = 400

    def __init__(self, tracer: OpenTelemetry, name: str, kind: trace.SpanKind, attributes: Attributes) -> None:
        self._tracer = tracer
        self._name, self._kind, self._attributes = name, kind, attributes
        self._began_ns = time.time_ns()
        self._parent: trace.SpanContext | None = None
        #: None: it has not begun.
        self._own: trace.SpanContext | None = None
        self._token: Token[trace.SpanContext | None] | None = None
        self._events: list[Event] = []
        self._status: trace.Status | None = None

    def __enter__(self) -> Self:
        parent = current.get()
        if parent is not None:
            self._parent = parent
            self._begin(parent.trace_id, parent.trace_flags, parent.trace_state)
        return self

    def __exit__(self, type: object, error: BaseException | None, traceback: object) -> None:
        if self._own is None or self._token is None:
            return
        current.reset(self._token)
        if isinstance(error, Exception):
            self._note_error(error)
        self._tracer.processor.on_end(
            EndedSpan(
                name=self._name,
                context=self._own,
                parent=self._parent,
                resource=self._tracer.resource,
                facts=self._cut(self._attributes),
                events=self._events,
                kind=self._kind,
                status=self._status,
                start_time=self._began_ns,
                end_time=time.time_ns(),
                instrumentation_scope=self._tracer.scope,
            )
        )

    def note_status(self, status: int) -> None:
        """Note the HTTP status of the answer, and whether that is an error."""
        self._attributes["http.response.status_code"] = int(status)
        if status >= self.FIRST_ERROR:
            self._status = trace.Status(trace.StatusCode.ERROR)
            self._attributes["error.type"] = str(int(status))

    def _begin(self, trace_id: int, flags: trace.TraceFlags, state: trace.TraceState) -> None:
        span_id = self._tracer.new_ids.generate_span_id()
        self._own = trace.SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags, trace_state=state)
        self._token = current.set(self._own)

    def _note_error(self, error: Exception) -> None:
        kind = type(error)
        self._status = trace.Status(trace.StatusCode.ERROR, f"{kind.__name__}: {error}")
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        facts = {"exception.type": f"{module}{kind.__qualname__}", "exception.message": str(error)}
        facts["exception.stacktrace"] = "".join(traceback.format_exception(error))
        self._events.append(Event("exception", facts))

    def _cut(self, attributes: Attributes) -> Attributes:
        """Return attributes that are no longer than OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT."""
        longest = self._tracer.max_length
        if longest is None:
            return attributes
        return {name: value[:longest] if isinstance(value, str) else value for name, value in attributes.items()}


class RequestSpan(OtelSpan):
    """The span of a caller's request. There is none until `begin` is called."""

    FIRST_ERROR = 500

    def __init__(self, tracer: OpenTelemetry, scope: dict[str, Any]) -> None:
        super().__init__(tracer, "", trace.SpanKind.SERVER, {})
        self._scope = scope

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """Begin the span, with the time at which the request came. The sampler decides whether it is sent."""
        path, method = self._scope["path"], self._scope.get("method", "GET")
        route = "/api/instances/{name}/" + ("dispatch" if path.endswith("/dispatch") else "proxy/{path}")
        self._name = f"{method} {route}"
        self._attributes |= {
            "http.request.method": method,
            "http.route": route,
            "url.path": path,
            "url.scheme": self._scope.get("scheme", "http"),
        }
        context = self._tracer.parent_of(self._scope)
        caller = trace.get_current_span(context).get_span_context()
        self._parent = caller if caller.is_valid else None
        new_ids = self._tracer.new_ids
        trace_id = caller.trace_id if self._parent else new_ids.generate_trace_id()
        sampled = self._tracer.sampler.should_sample(context, trace_id, self._name, self._kind, self._attributes)
        is_random = caller.trace_flags.random_trace_id if self._parent else new_ids.is_trace_id_random()
        flags = trace.TraceFlags.RANDOM_TRACE_ID if is_random else trace.TraceFlags.DEFAULT
        if sampled.decision is Decision.RECORD_AND_SAMPLE:
            flags |= trace.TraceFlags.SAMPLED
        self._begin(trace_id, trace.TraceFlags(flags), sampled.trace_state or trace.TraceState())
        tracing.trace_id.set(f"{trace_id:032x}")


@lru_cache(256)
def _server_of(url: str) -> tuple[str, int]:
    server = urlsplit(url)
    return server.hostname or "", server.port or 80
