"""What metrics, the log and traces add to the processor time of a warm dispatch."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from benchmarks.report import Section, Table, median, number
from benchmarks.sections.cold_start import HOST, engine
from benchmarks.sections.warm_dispatch import new_agent, wake
from benchmarks.servers import DORMOUSE, TOKEN, WebServer, dormouse_environment, manage
from tests.docker.support.containers import BUSYBOX, Containers

TITLE = "Observing"
ABOUT = """\
The processor time of a web process for one warm dispatch to a container on a real Docker Engine (daphne, SQLite, one
kept connection), with each kind of observing added to the one before: {rounds} rounds of {count} dispatches, by turns.
*Metrics* are scraped once in a round, which is at least once a second of dispatches; the scrape is in the figure.
Traces go to a collector on this machine, which drops them; every dispatch is sampled. The ratio is the median of the
rounds' ratios to the row before. The goals: at most 1.05x for metrics, and 1.15x for traces."""
UNOBSERVED = "benchmarks.compared.unobserved:application"
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
    """A web process with a scope and an agent of its own. The one that is named `nothing` has no metrics."""

    def __init__(self, folder: Path, containers: Containers, **more: str) -> None:
        folder.mkdir()
        self._agent, _ = new_agent(containers, scope=folder.name)
        self._is_scraped = folder.name != "nothing"
        settings = {"DORMOUSE_ENGINE": "docker", "DOCKER_HOST": HOST}
        more |= {"DORMOUSE_SCOPE": folder.name, "DORMOUSE_VAR_DIR": str(folder / "var")}
        environment = dormouse_environment(f"sqlite:///{folder}/db", **settings, **more)
        manage(environment, "migrate", "--verbosity", "0", "--skip-checks")
        application = DORMOUSE if self._is_scraped else UNOBSERVED
        self._server = WebServer(application, environment, folder / "log")
        wake(self._server, self._agent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(*error)

    def measure(self, count: int) -> float:
        """Dispatch so many times on one connection, and return the processor time of each in seconds."""
        before = self._cpu_seconds()
        with closing(http.client.HTTPConnection("127.0.0.1", self._server.port)) as connection:
            if self._is_scraped:
                _ask(connection, "GET", "/metrics")
            for _ in range(count):
                _ask(connection, "POST", f"/api/instances/{self._agent}/dispatch", b"work")
        return (self._cpu_seconds() - before) / count

    def _cpu_seconds(self) -> float:
        """Return the server's processor time, more finely than the 10 ms of /proc. Source: clock_getcpuclockid(3)."""
        return time.clock_gettime(~self._server.process.pid << 3 | 2)


def _ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> None:
    connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, text


def run(folder: Path, quick: bool) -> Section:
    if not HOST or not BUSYBOX.exists():
        return Section(TITLE, "Not measured: the section about cold starts says what it needs.")
    rounds, count = (5, 200) if quick else (15, 700)
    with ExitStack() as stack:
        containers = stack.enter_context(engine())
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": stack.enter_context(collector())}

        def site(name: str, **more: str) -> Site:
            return stack.enter_context(Site(folder / name, containers, **more))

        sites = {
            "nothing": site("nothing", **QUIET),
            "metrics": site("metrics", **QUIET),
            "and a line of the log": site("log"),
            "and traces": site("traces", **traced),
        }
        measured = [{name: site.measure(count) for name, site in sites.items()} for _ in range(rounds + 1)]
    return Section(TITLE, ABOUT.format(rounds=rounds, count=count), {"": table(measured[1:])})  # one to warm up


def table(measured: list[dict[str, float]]) -> Table:
    rows, before = [], ""
    for name in measured[0]:
        cpu_ms = median(one[name] for one in measured) * 1000
        added = f"{median(one[name] / one[before] for one in measured):.2f}x" if before else ""
        rows.append([name, f"{number(cpu_ms)} ms", added])
        before = name
    return Table(["observed by", "CPU of a dispatch", "ratio"], rows)
