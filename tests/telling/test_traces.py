"""Traces: a real web process sends spans to a collector, which reads the protobuf."""

import asyncio
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from events.models import EventLog
from lifecycle import tracing
from lifecycle.engines.process.engine import ProcessEngine
from tests.servers import PROJECT, free_port, wait_for

pytest.importorskip("opentelemetry.proto", reason="needs requirements-otel.txt")
from opentelemetry import propagate
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.telling.spans import make_tracer

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
#: Answers with its traceparent; work that is a number is the status of the answer. It makes spans of its own, too.
AGENT = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from opentelemetry import propagate
from tests.telling.spans import make_tracer

tracer = make_tracer("agent", sys.argv[2])

class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        with tracer.start_as_current_span("work", context=propagate.extract(dict(self.headers))):
            work = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(work) if work.isdigit() else 200)
        self.end_headers()
        self.wfile.write(self.headers.get("traceparent", "none").encode())

HTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
"""


def attributes(span):
    return {one.key: one.value.int_value or one.value.string_value for one in span.attributes}


class Collector:
    """Receives OTLP over HTTP, and keeps the spans."""

    def __init__(self):
        self.spans, self.resources = [], []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                assert self.path == "/v1/traces"
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in request.resource_spans:
                    collector.resources.append(
                        {one.key: one.value.string_value for one in resource.resource.attributes}
                    )
                    collector.spans += [span for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def named(self, name):
        return [span for span in list(self.spans) if span.name == name]


@pytest.fixture
def collector():
    running = Collector()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def site(serve, tmp_path, collector):
    (tmp_path / "agent.py").write_text(AGENT)
    port, agents = free_port(), tmp_path / "agents.toml"
    command = json.dumps(["env", f"PYTHONPATH={PROJECT}", sys.executable, "agent.py", str(port), collector.url])
    agents.write_text(
        f"[works]\ncommand = {command}\nport = {port}\n[fails]\ncommand = 'false'\nport = {free_port()}\n"
    )
    environment = {"DORMOUSE_AGENTS_FILE": str(agents), "DORMOUSE_RUN_DIR": str(tmp_path / "run")}
    otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    yield serve(DORMOUSE_LOG_FORMAT="json", **environment, **otel)
    ProcessEngine(agents, tmp_path / "run").stop("works", 5)


def dispatch(server, name, work=b"x", **headers):
    url = f"{server.url}/api/instances/{name}/dispatch"
    return httpx.post(url, content=work, headers=server.bearer | headers, timeout=60)


def lines_of(server):
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def test_a_cold_dispatch_is_one_trace_from_the_caller_to_the_agent(site, collector):
    with make_tracer("caller", collector.url).start_as_current_span("ask"):
        headers = {}
        propagate.inject(headers)
        answer = dispatch(site, "works", b"500", **headers)
    names = ["ask", "POST /api/instances/{name}/dispatch", "wake", "claim", "start", "probe", "POST", "work"]
    wait_for(lambda: all(collector.named(name) for name in names), what="the spans")
    assert len(collector.spans) == len(names)
    ask, dispatched, wake, claim, start, probe, forward, work = (collector.named(name)[0] for name in names)
    assert dispatched.parent_span_id == ask.span_id
    assert {span.parent_span_id for span in (wake, forward)} == {dispatched.span_id}
    assert {span.parent_span_id for span in (claim, start, probe)} == {wake.span_id}
    assert work.parent_span_id == forward.span_id
    trace = ask.trace_id.hex()
    assert {span.trace_id.hex() for span in collector.spans} == {trace}
    assert answer.text.split("-")[1:3] == [trace, forward.span_id.hex()]
    assert {line.get("trace_id") for line in lines_of(site) if is_about_the_dispatch(line)} == {trace}
    assert (
        wait_for(lambda: EventLog.objects.filter(type="work.failed").first(), what="the event").data["trace_id"]
        == trace
    )


def is_about_the_dispatch(line):
    return "works started" in line["message"] or line.get("path") == "/api/instances/works/dispatch"


def test_spans_say_what_they_are_of_as_the_conventions_for_http_want(site, collector):
    assert dispatch(site, "works").status_code == 200
    names = ["POST /api/instances/{name}/dispatch", "wake", "POST"]
    wait_for(lambda: all(collector.named(name) for name in names), what="the spans")
    dispatched, wake, forward = (collector.named(name)[0] for name in names)
    assert (dispatched.kind, forward.kind) == (dispatched.SPAN_KIND_SERVER, forward.SPAN_KIND_CLIENT)
    assert attributes(dispatched)["http.response.status_code"] == 200
    assert attributes(dispatched)["http.route"] == "/api/instances/{name}/dispatch"
    assert attributes(wake)["dormouse.agent"] == "works"
    assert attributes(forward)["server.address"] == "127.0.0.1"
    assert "dormouse" in [resource["service.name"] for resource in collector.resources]


def test_failed_work_and_its_lines_have_the_id_of_the_trace(site, collector):
    assert dispatch(site, "works", b"500").status_code == 500  # the caller has no trace, so Dormouse begins one
    event = wait_for(lambda: EventLog.objects.filter(type="work.failed").first(), what="the event")
    dispatched = wait_for(lambda: collector.named("POST /api/instances/{name}/dispatch"), what="the span")[0]
    assert event.data["trace_id"] == dispatched.trace_id.hex()
    assert dispatched.status.code == dispatched.status.STATUS_CODE_ERROR
    assert attributes(dispatched)["error.type"] == "500"
    assert dispatch(site, "fails", traceparent=TRACEPARENT).status_code == 503
    failed = next(line for line in lines_of(site) if "fails failed to start" in line["message"])
    assert failed["trace_id"] == TRACE
    ended = next(line for line in lines_of(site) if line.get("path") == "/api/instances/fails/dispatch")
    assert ended["trace_id"] == TRACE


def test_a_request_that_is_refused_has_no_span(serve, collector):
    server = serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, DORMOUSE_LOG_FORMAT="json")
    url, headers = f"{server.url}/api/instances/works/dispatch", {"traceparent": TRACEPARENT}
    assert httpx.post(url, headers=headers).status_code == 401
    assert httpx.post(url, headers=headers | {"Authorization": "Bearer wrong"}).status_code == 401
    assert httpx.get(url, headers=headers | server.bearer).status_code == 405
    server.stop()  # sends what spans there are
    assert not collector.spans
    assert [line["trace_id"] for line in lines_of(server) if "status" in line and "trace_id" in line] == [TRACE] * 3


def test_the_last_spans_leave_at_the_end(serve, collector):
    server = serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="600000")
    assert dispatch(server, "unknown").status_code == 404
    server.stop()
    found = collector.named("POST /api/instances/{name}/dispatch")
    assert [attributes(span)["http.response.status_code"] for span in found] == [404]


def test_a_collector_that_is_gone_disturbs_nothing(serve):
    server = serve(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}", OTEL_BSP_SCHEDULE_DELAY="100")
    assert dispatch(server, "unknown").status_code == 404


WITHOUT_PACKAGES = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
import django
django.setup()
sys.modules["opentelemetry"] = None
from telling import traces
traces.install()
from lifecycle import tracing
from lifecycle.engines.process.engine import ProcessEngine
print(tracing.tracer)
"""


@pytest.mark.server
def test_without_the_packages_a_line_says_so(tmp_path):
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "DORMOUSE_VAR_DIR": str(tmp_path)}
    command = [sys.executable, "-c", WITHOUT_PACKAGES]
    run = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert run.stdout == "None\n"
    assert "Install requirements-otel.txt" in run.stderr


def test_without_an_endpoint_only_the_id_of_the_caller_is_noted():
    async def serve():
        with tracing.serve({"headers": [(b"traceparent", TRACEPARENT.encode())]}):
            return tracing.trace_id.get()

    assert asyncio.run(serve()) == TRACE
    assert tracing.add_traceparent([("traceparent", TRACEPARENT)]) == [("traceparent", TRACEPARENT)]


@pytest.mark.parametrize("given", ["", "00-x", f"01-{TRACE}-{CALLER}-01", f"{TRACEPARENT}\n", TRACEPARENT.upper()])
def test_what_is_no_traceparent_has_no_id(given):
    assert tracing.read_trace_id(given) == ""
