"""The spans of OpenTelemetry. Its packages are optional: `telling.traces` imports this module if traces are wanted."""

import time
from typing import Any, Self
from urllib.parse import urlsplit

from django.conf import settings
from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from lifecycle import tracing


class OpenTelemetry:
    """A `lifecycle.tracing.Tracer` whose spans go to a collector, from a thread of their own.

    The SDK reads the variables of its specification by itself: the sampler, the headers and timeouts of the exporter.
    """

    def __init__(self, attributes: dict[str, Any]) -> None:
        self._provider = TracerProvider(resource=Resource.create(attributes))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("dormouse", settings.DORMOUSE_VERSION)
        #: The headers that say to which trace a request belongs.
        self._fields = frozenset(name.lower().encode() for name in propagate.get_global_textmap().fields)

    def serve(self, scope: dict[str, Any]) -> "RequestSpan":
        """Surround a request of a caller. Its span begins with `begin`, and continues the caller's trace."""
        return RequestSpan(self, scope)

    def forward(self, method: str, url: str) -> "OtelSpan":
        """Surround a request to an agent, until the head of its answer."""
        target = urlsplit(url)
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "server.address": target.hostname or "",
            "server.port": target.port or 80,
            "url.full": url.partition("?")[0],  # a query may hold secrets
        }
        return OtelSpan(self._tracer.start_span(method, kind=trace.SpanKind.CLIENT, attributes=attributes))

    def step(self, name: str, agent: str) -> "OtelSpan":
        """Surround a step in between."""
        return OtelSpan(self._tracer.start_span(name, attributes={"dormouse.agent": agent}))

    def add_traceparent(self, headers: tracing.Headers) -> tracing.Headers:
        """Return the headers with the current span as the parent."""
        ours: dict[str, str] = {}
        propagate.inject(ours)
        return [header for header in headers if header[0].lower() not in ours] + list(ours.items())

    def flush(self, milliseconds: int) -> None:
        """Send the spans that have ended. Wait so long at most."""
        self._provider.force_flush(milliseconds)

    def start_request(self, scope: dict[str, Any], began_ns: int) -> trace.Span:
        """Start the span of a caller's request, which began at that time."""
        route = "/api/instances/{name}/" + ("dispatch" if scope["path"].endswith("/dispatch") else "proxy/{path}")
        method = scope.get("method", "GET")
        attributes = {
            "http.request.method": method,
            "http.route": route,
            "url.path": scope["path"],
            "url.scheme": scope.get("scheme", "http"),
        }
        name, kind, parent = f"{method} {route}", trace.SpanKind.SERVER, self._parent_of(scope)
        return self._tracer.start_span(name, parent, kind, attributes, start_time=began_ns)

    def _parent_of(self, scope: dict[str, Any]) -> context.Context:
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"] if name in self._fields
        }
        return propagate.extract(headers, context.Context()) if headers else context.Context()


class OtelSpan:
    """A span that is current within its block. An answer with the status `FIRST_ERROR` or more makes it an error.

    `start_as_current_span` does the same by generators: with it a warm dispatch takes 15 us more.
    """

    FIRST_ERROR = 400

    def __init__(self, span: trace.Span | None) -> None:
        self._span = span
        self._token: Any = None

    def __enter__(self) -> Self:
        if self._span is not None:
            self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, type: object, error: BaseException | None, traceback: object) -> None:
        if self._span is None:
            return
        context.detach(self._token)
        if isinstance(error, Exception):
            self._span.record_exception(error)
            self._span.set_status(trace.StatusCode.ERROR, f"{error.__class__.__name__}: {error}")
        self._span.end()

    def note_status(self, status: int) -> None:
        """Note the HTTP status of the answer, and whether that is an error."""
        if self._span is None:
            return
        self._span.set_attribute("http.response.status_code", int(status))
        if status >= self.FIRST_ERROR:
            self._span.set_status(trace.StatusCode.ERROR)
            self._span.set_attribute("error.type", str(int(status)))


class RequestSpan(OtelSpan):
    """The span of a caller's request. There is none until `begin` is called."""

    FIRST_ERROR = 500

    def __init__(self, tracer: OpenTelemetry, scope: dict[str, Any]) -> None:
        super().__init__(None)
        self._tracer, self._scope, self._began_ns = tracer, scope, time.time_ns()

    def begin(self) -> None:
        """Begin the span, with the time at which the request came."""
        self._span = self._tracer.start_request(self._scope, self._began_ns)
        self._token = context.attach(trace.set_span_in_context(self._span))
        tracing.trace_id.set(f"{self._span.get_span_context().trace_id:032x}")
