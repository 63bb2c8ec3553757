"""Spans as messages for a collector. The SDK makes the messages, but for their attributes.

To make an attribute takes the SDK 2 us, and a dispatch has eleven. Nearly all of them are those of the dispatch before,
so each is made once. `tests/telling/test_otel.py` compares the messages with the SDK's own.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

#: So many attributes are remembered. A path may be 64 KiB long.
MAX_REMEMBERED = 256


class HashedResource(Resource):
    """A resource whose hash is known. The SDK makes it anew for each span, from JSON."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource.attributes, resource.schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


class EndedSpan(ReadableSpan):
    """A span for the exporter, whose attributes are encoded here."""

    def __init__(self, *, facts: dict[str, str | int], **values: Any) -> None:
        super().__init__(**values)
        self.facts = facts


def make_exporter() -> trace_exporter.OTLPSpanExporter:
    """Return the SDK's exporter, which uses `encode` from now on. It sends ended spans of one resource and scope."""
    trace_exporter.encode_spans = encode  # type: ignore[attr-defined, assignment]
    return trace_exporter.OTLPSpanExporter()


def encode(spans: Sequence[EndedSpan]) -> ExportTraceServiceRequest:
    """Return the message with these spans, which are of one resource and one scope."""
    request = encode_spans(spans)
    messages = request.resource_spans[0].scope_spans[0].spans
    for message, span in zip(messages, spans, strict=True):
        message.attributes.extend([_attribute(name, value) for name, value in span.facts.items()])
    return request


@lru_cache(MAX_REMEMBERED, typed=True)
def _attribute(name: str, value: str | int) -> KeyValue:
    encoded = AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value)
    return KeyValue(key=name, value=encoded)
