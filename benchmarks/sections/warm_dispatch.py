"""What a dispatch to a running instance costs, beside the same request to the agent itself."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.compared import keeping_agent
from benchmarks.report import Section, Table, number, percentile, ratio
from benchmarks.sections.cold_start import HOST, engine
from benchmarks.servers import TOKEN, WebServer, dormouse
from tests.docker.support.containers import BUSYBOX, PORT, Containers
from tests.servers import PROJECT, free_port

TITLE = "Warm dispatch"
ABOUT = """\
`POST /api/instances/NAME/dispatch` to a running container on a real Docker Engine, with a token, on kept connections,
beside the same request to the agent itself, by turns. The agent keeps its connections and answers at once. The web
process has an embedded supervisor, on SQLite. The requests come from one process, which shares the processors with all
of them. *CPU* is what the web process used for one dispatch.

The goals: one at a time, at most 1.2 ms added at p50, and 1.2 ms of CPU; with 10 at once, 1,000 a second. Under uvicorn
0.7 ms, 0.7 ms and 2,500."""
WIDTHS = (1, 10, 50)
BODY = "work"


@dataclass(frozen=True)
class Measured:
    """One run: how long each request took, and what the web process used for it."""

    times_ms: list[float]
    seconds: float
    cpu_seconds: float


class Requesters:
    """`benchmarks.load.requesters`, in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", server: WebServer) -> None:
        self._process, self._server = process, server

    def measure(self, port: int, connections: int, seconds: float, request: str) -> Measured:
        """Make requests for `seconds` on `connections` at once."""
        assert self._process.stdin
        assert self._process.stdout
        before = self._server.cost.cpu_seconds
        print(json.dumps([port, connections, seconds, request]), file=self._process.stdin, flush=True)
        times = json.loads(self._process.stdout.readline())
        return Measured(times, seconds, self._server.cost.cpu_seconds - before)


@contextmanager
def requesters(server: WebServer) -> Iterator[Requesters]:
    """Start the process that makes the requests."""
    command = [sys.executable, "-m", "benchmarks.load.requesters"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=PROJECT, text=True, **pipes) as process:  # type: ignore[call-overload]
        yield Requesters(process, server)
        process.stdin.close()


def new_agent(containers: Containers, scope: str = "") -> tuple[str, int]:
    """Create an agent, in a container that uses this machine's Python. Return its name and published port."""
    port, script = free_port(), Path(keeping_agent.__file__)
    folders = ["/lib", "/lib64", "/usr/lib", sys.base_prefix, str(script.parent)]
    binds = [f"{folder}:{folder}:ro" for folder in folders if Path(folder).exists()]
    name = containers.create(
        command=[f"{sys.base_prefix}/bin/python3", "-I", str(script), str(PORT)],
        host_port=port,
        host_config={"binds": binds},
        ready_path="/",
        idle_timeout="0",
        scope=scope,
    )
    return name, port


def run(folder: Path, quick: bool) -> Section:
    if not HOST or not BUSYBOX.exists():
        return Section(TITLE, "Not measured: the section about cold starts says what it needs.")
    seconds, turns = (1, 1) if quick else (5, 3)
    return Section(TITLE, ABOUT, {one: measure(folder, one, seconds, turns) for one in ("daphne", "uvicorn")})


def measure(folder: Path, asgi_server: str, seconds: float, turns: int) -> Table:
    """Return the table of one server."""
    with ExitStack() as stack:
        containers = stack.enter_context(engine())
        name, port = new_agent(containers)
        settings = {"DORMOUSE_ENGINE": "docker", "DOCKER_HOST": HOST, "DORMOUSE_SUPERVISOR": "embedded"}
        server, _ = stack.enter_context(dormouse(folder, **settings, DORMOUSE_SERVER=asgi_server))
        wake(server, name)
        requests = stack.enter_context(requesters(server))
        rows = [row for width in WIDTHS for row in compare(requests, (name, port), server, width, seconds, turns)]
    return Table(["", "the agent itself", "dispatched", "added"], rows)


def wake(server: WebServer, name: str) -> None:
    """Dispatch once, so that the agent runs."""
    url, headers = f"{server.url}/api/instances/{name}/dispatch", {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.post(url, content=BODY, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text


def compare(
    requests: Requesters, agent: tuple[str, int], server: WebServer, width: int, seconds: float, turns: int
) -> list[list[str]]:
    """Return the rows of one width."""
    name, port = agent
    direct, dispatched = [], []
    for _ in range(turns):
        direct.append(requests.measure(port, width, seconds, request_of("/", "")))
        path, token = f"/api/instances/{name}/dispatch", f"Authorization: Bearer {TOKEN}\r\n"
        dispatched.append(requests.measure(server.port, width, seconds, request_of(path, token)))
    return rows_of(f"{width} at once" if width > 1 else "1 at a time", direct, dispatched)


def request_of(path: str, more: str) -> str:
    """Return a request, as it is written on a connection."""
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}Content-Length: {len(BODY)}\r\n\r\n{BODY}"


def rows_of(what: str, direct: list[Measured], dispatched: list[Measured]) -> list[list[str]]:
    one, other = ([time for run in runs for time in run.times_ms] for runs in (direct, dispatched))
    rows = []
    for percent in (50, 99):
        ms = percentile(one, percent), percentile(other, percent)
        rows.append([f"{what}, p{percent}", *(f"{number(value)} ms" for value in (*ms, ms[1] - ms[0]))])
    rates = [len(times) / sum(run.seconds for run in runs) for times, runs in ((one, direct), (other, dispatched))]
    rows.append([f"{what}, a second", *map(number, rates), ratio(rates[1], rates[0])])
    cpu_ms = sum(run.cpu_seconds for run in dispatched) * 1000 / len(other)
    return [*rows, [f"{what}, CPU of one", "", f"{number(cpu_ms)} ms", ""]]
