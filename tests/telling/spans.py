"""Spans of callers and agents. They know nothing of Dormouse, and send each span at once."""

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Tracer


def make_tracer(service: str, collector_url: str) -> Tracer:
    """Return what makes the spans of a service, and sends them to the collector."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{collector_url}/v1/traces")))
    return provider.get_tracer(service)
