"""The spans and messages that are made without the SDK are what the SDK would make."""

import pytest

pytest.importorskip("opentelemetry.proto", reason="needs requirements-otel.txt")
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from lifecycle import tracing
from telling import otel, traces
from telling.otel import OpenTelemetry
from telling.otel_encoding import EndedSpan, HashedResource, encode, make_exporter

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FACTS: dict[str, str | int] = {
    "http.request.method": "POST",
    "url.path": "/api/instances/a/dispatch",
    "server.port": 80,
    "empty": "",
}


@pytest.fixture
def exporter(monkeypatch):
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(otel, "make_exporter", lambda: exporter)
    return exporter


@pytest.fixture
def environment():
    """The variables of the SDK; tests give others."""
    return {}


@pytest.fixture
def tracer(exporter, environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    tracer = OpenTelemetry({"service.name": "dormouse"})
    yield tracer
    tracer._provider.shutdown()


@pytest.fixture
def sent(tracer, exporter):
    """Return the spans that the collector gets, by name."""

    def flush():
        tracer.flush(60_000)
        return {span.name: span for span in exporter.get_finished_spans()}

    return flush


def scope(**headers):
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"path": "/api/instances/a/dispatch", "method": "POST", "scheme": "http", "headers": given}


def dispatch(tracer, *, error=None, **headers):
    """Return the headers that the agent gets."""
    with tracer.serve(scope(**headers)) as request:
        request.begin()
        try:
            with tracer.forward("POST", "http://10.0.0.1:8080/work?secret=1") as forward:
                given = tracer.add_traceparent([("x", "y"), ("Traceparent", "old")])
                if error:
                    raise error
                forward.note_status(200)
        except ValueError:
            request.note_status(502)
        else:
            request.note_status(200)
    return dict(given)


def context(span_id, flags=1, **values):
    known = {"is_remote": False, "trace_flags": trace.TraceFlags(flags)}
    return trace.SpanContext(int(TRACE, 16), span_id, **known | values)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"parent": context(7, is_remote=True)},
        {"status": trace.Status(trace.StatusCode.ERROR, "it is broken")},
        {"events": [Event("exception", {"exception.message": "é"}, 5)]},
        {"context": context(9, trace_state=trace.TraceState([("vendor", "1")]))},
    ],
)
def test_the_message_is_that_of_the_sdk(more):
    values = {"name": "POST", "context": context(9), "kind": trace.SpanKind.CLIENT, "start_time": 1, "end_time": 2}
    values |= {"resource": Resource.create({"service.name": "x"}), "status": None}
    values |= {"instrumentation_scope": InstrumentationScope("x", "1")} | more
    ours = [EndedSpan(facts=facts, **values) for facts in (FACTS, {}, FACTS | {"more": 1})]
    theirs = [ReadableSpan(attributes=span.facts, **values) for span in ours]
    assert encode(ours) == encode_spans(theirs)


def test_the_exporter_of_the_sdk_uses_it(monkeypatch):
    monkeypatch.setattr(trace_exporter, "encode_spans", encode_spans)  # which is put back at the end
    make_exporter().shutdown()
    assert vars(trace_exporter)["encode_spans"] is encode


def test_a_hashed_resource_equals_the_one_it_is_of():
    resource = Resource.create({"service.name": "x"})
    assert (HashedResource(resource), hash(HashedResource(resource))) == (resource, hash(resource))


def test_a_dispatch_belongs_to_the_trace_of_its_caller(tracer, sent):
    given = dispatch(tracer, traceparent=f"00-{TRACE}-{CALLER}-01", tracestate="vendor=1")
    request, forward = sent()["POST /api/instances/{name}/dispatch"], sent()["POST"]
    assert (request.parent.trace_id, request.parent.span_id) == (int(TRACE, 16), int(CALLER, 16))
    assert (forward.parent, forward.context.trace_id) == (request.context, int(TRACE, 16))
    assert given == {"x": "y", "traceparent": f"00-{TRACE}-{forward.context.span_id:016x}-01", "tracestate": "vendor=1"}
    assert forward.facts == {
        "http.request.method": "POST",
        "server.address": "10.0.0.1",
        "server.port": 8080,
        "url.full": "http://10.0.0.1:8080/work",
        "http.response.status_code": 200,
    }
    assert request.start_time <= forward.start_time <= forward.end_time <= request.end_time


@pytest.mark.parametrize("environment", [{}, {"OTEL_PROPAGATORS": "tracecontext"}], ids=["ours", "of the SDK"])
def test_the_agent_gets_the_span_of_its_request_as_the_parent(tracer, sent):
    given = dispatch(tracer, traceparent=f"00-{TRACE}-{CALLER}-01")
    assert given == {"x": "y", "traceparent": f"00-{TRACE}-{sent()['POST'].context.span_id:016x}-01"}


def test_a_dispatch_without_a_callers_trace_begins_one(tracer, sent):
    first, second = dispatch(tracer), dispatch(tracer)
    assert first["traceparent"][3:35] != second["traceparent"][3:35]
    request = sent()["POST /api/instances/{name}/dispatch"]
    assert request.parent is None
    assert request.context.trace_flags.random_trace_id
    assert tracing.trace_id.get() == f"{request.context.trace_id:032x}"


def test_an_error_is_told(tracer, sent):
    dispatch(tracer, error=ValueError("the agent is gone"))
    request, forward = sent()["POST /api/instances/{name}/dispatch"], sent()["POST"]
    assert forward.status.description == "ValueError: the agent is gone"
    assert forward.events[0].attributes["exception.type"] == "ValueError"
    assert "raise error" in forward.events[0].attributes["exception.stacktrace"]
    assert (request.facts["error.type"], request.status.is_ok) == ("502", False)


@pytest.mark.parametrize("environment", [{"OTEL_TRACES_SAMPLER": "parentbased_always_off"}])
@pytest.mark.parametrize("headers", [{}, {"traceparent": f"00-{TRACE}-{CALLER}-00"}])
def test_what_the_sampler_does_not_choose_is_not_sent(tracer, sent, headers):
    """The agent is told so, and the id of the trace is in the log."""
    given = dispatch(tracer, **headers)
    assert sent() == {}
    assert int(given["traceparent"][-2:], 16) & 1 == 0
    assert tracing.trace_id.get() == given["traceparent"][3:35]


def test_a_step_outside_of_a_dispatch_has_no_span(tracer, sent):
    with tracer.step("claim", "a"):
        assert tracer.add_traceparent([("x", "y")]) == [("x", "y")]
    with tracer.serve(scope()):  # refused before it began
        pass
    assert sent() == {}


@pytest.mark.parametrize("environment", [{"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "10"}])
def test_an_attribute_is_no_longer_than_the_limit(tracer, sent):
    dispatch(tracer)
    assert sent()["POST"].facts["url.full"] == "http://10."


def test_the_sdks_own_switch_turns_traces_off(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    traces.install()
    assert tracing.tracer is None


def test_no_span_is_current_after_a_dispatch(tracer):
    dispatch(tracer)
    assert otel.current.get() is None
