"""Traces of dispatches with OpenTelemetry, if OTEL_EXPORTER_OTLP_ENDPOINT is set.

The packages are optional (`requirements-otel.txt`), so they are imported when they are needed. The SDK reads the other
variables of its specification by itself: the sampler, the headers and the timeouts of the exporter.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from lifecycle import tracing

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: How long the last spans may take to leave at the end of the process.
FLUSH_MS = 2000


def install() -> None:
    """Begin to trace, if an endpoint is set and the packages are there."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return
    try:
        tracing.tracer = OpenTelemetry()
    except ImportError as error:
        logger.warning(
            "There are no traces, although %s is set: %s. Install requirements-otel.txt.", ENDPOINTS[0], error
        )
    else:
        logger.info("Traces of dispatches are sent to the collector that %s names", ENDPOINTS[0])


def shut_down() -> None:
    """Send the last spans. This waits for FLUSH_MS at most."""
    if isinstance(tracing.tracer, OpenTelemetry):
        tracing.tracer.provider.force_flush(FLUSH_MS)


class OpenTelemetry:
    """A `lifecycle.tracing.Tracer` whose spans go to a collector, from a thread of their own."""

    def __init__(self) -> None:
        from opentelemetry import propagate, trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        about = {"service.version": settings.DORMOUSE_VERSION}
        if not os.environ.get("OTEL_SERVICE_NAME"):
            about["service.name"] = "dormouse"
        self.provider = TracerProvider(resource=Resource.create(about))
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self.provider.get_tracer("dormouse", settings.DORMOUSE_VERSION)
        self._propagate, self._trace = propagate, trace

    @contextmanager
    def serve(self, scope: dict[str, Any]) -> Iterator["OtelSpan"]:
        """Surround a request of a caller, continuing the caller's trace."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        route = "/api/instances/{name}/" + ("dispatch" if scope["path"].endswith("/dispatch") else "proxy/{path}")
        method = scope.get("method", "GET")
        attributes = {
            "http.request.method": method,
            "http.route": route,
            "url.path": scope["path"],
            "url.scheme": scope.get("scheme", "http"),
        }
        parent, kind = self._propagate.extract(headers), self._trace.SpanKind.SERVER
        with self._tracer.start_as_current_span(
            f"{method} {route}", context=parent, kind=kind, attributes=attributes
        ) as span:
            tracing.trace_id.set(f"{span.get_span_context().trace_id:032x}")
            yield OtelSpan(span, 500)

    @contextmanager
    def forward(self, method: str, url: str) -> Iterator["OtelSpan"]:
        """Surround a request to an agent, until the head of its answer."""
        target = urlsplit(url)
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "server.address": target.hostname or "",
            "server.port": target.port or 80,
            "url.full": target._replace(query="").geturl(),  # a query may hold secrets
        }
        with self._tracer.start_as_current_span(
            method, kind=self._trace.SpanKind.CLIENT, attributes=attributes
        ) as span:
            yield OtelSpan(span, 400)

    @contextmanager
    def step(self, name: str, agent: str) -> Iterator["OtelSpan"]:
        """Surround a step in between."""
        with self._tracer.start_as_current_span(name, attributes={"dormouse.agent": agent}) as span:
            yield OtelSpan(span, 400)

    def add_traceparent(self, headers: tracing.Headers) -> tracing.Headers:
        """Return the headers with the current span as the parent."""
        ours: dict[str, str] = {}
        self._propagate.inject(ours)
        return [header for header in headers if header[0].lower() not in ours] + list(ours.items())


class OtelSpan:
    """A span of OpenTelemetry, which is an error from the status `first_error` on."""

    def __init__(self, span: Any, first_error: int) -> None:
        self._span = span
        self._first_error = first_error

    def note_status(self, status: int) -> None:
        """Note the HTTP status of the answer, and whether that is an error."""
        self._span.set_attribute("http.response.status_code", int(status))
        if status >= self._first_error:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR)
            self._span.set_attribute("error.type", str(int(status)))
