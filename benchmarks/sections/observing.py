"""What metrics, the log and traces add to the processor time of a warm dispatch."""

import http.client
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.report import Section, Table, median, number, ratio
from benchmarks.servers import TOKEN, Daphne, dormouse_environment, manage
from tests.servers import free_port

TITLE = "Observing"
ABOUT = """\
The processor time of a web process for one warm dispatch to a local agent (the process engine, SQLite, one kept
connection), with each kind of observing added to the one before: {rounds} rounds of {count} dispatches each, by turns.
Traces are sent to a collector on this machine, which drops them. The ratios are medians of the rounds' ratios."""
AGENT = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *arguments):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
"""
QUIET = {"DORMOUSE_ACCESS_LOG": "false"}


@contextmanager
def collector() -> Iterator[str]:
    """Provide the URL of a collector that takes all spans and drops them."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Site:
    """A web process with an agent of its own."""

    def __init__(self, folder: Path, name: str, application: str, stack: ExitStack, **more: str) -> None:
        own = folder / name
        own.mkdir()
        (own / "agent.py").write_text(AGENT)
        port = free_port()
        command = json.dumps([sys.executable, "agent.py", str(port)])
        (own / "agents.toml").write_text(f"[agent]\ncommand = {command}\nport = {port}\nready = 'tcp'\n")
        more |= {"DORMOUSE_AGENTS_FILE": str(own / "agents.toml"), "DORMOUSE_RUN_DIR": str(own / "run")}
        self.environment = environment = dormouse_environment(
            f"sqlite:///{own}/db", DORMOUSE_VAR_DIR=str(own / "var"), **more
        )
        manage(environment, "migrate", "--verbosity", "0", "--skip-checks")
        self.server = stack.enter_context(Daphne(application, environment, own / "log"))
        self.dispatch(1)

    def dispatch(self, count: int) -> float:
        """Dispatch `count` times on one connection, and return the processor time of each, in seconds."""
        before = self.server.cost.cpu_seconds
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        for _ in range(count):
            path, headers = "/api/instances/agent/proxy/", {"Authorization": f"Bearer {TOKEN}"}
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
        connection.close()
        return (self.server.cost.cpu_seconds - before) / count


def run(folder: Path, quick: bool) -> Section:
    rounds, count = (5, 200) if quick else (15, 600)
    with ExitStack() as stack:
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": stack.enter_context(collector())}
        sites = {
            "nothing": Site(folder, "nothing", "benchmarks.compared.unobserved:application", stack, **QUIET),
            "metrics": Site(folder, "metrics", "config.asgi:application", stack, **QUIET),
            "and a line of the log": Site(folder, "log", "config.asgi:application", stack),
            "and traces": Site(folder, "traces", "config.asgi:application", stack, **traced),
        }
        measured = [{name: site.dispatch(count) for name, site in sites.items()} for _ in range(rounds)]
        for site in sites.values():
            manage(site.environment, "sleep", "agent")  # it would outlive its web process
    return Section(TITLE, ABOUT.format(rounds=rounds, count=count), {"": table(measured)})


def table(measured: list[dict[str, float]]) -> Table:
    rows = []
    for name in measured[0]:
        cpu_ms = median(one[name] for one in measured) * 1000
        share = median(one[name] / one["nothing"] for one in measured)
        rows.append([name, f"{number(cpu_ms)} ms", ratio(share, 1)])
    return Table(["observed by", "CPU of a dispatch", "ratio"], rows)
