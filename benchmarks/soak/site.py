"""The web process that is loaded, its agents, and what it costs."""

import collections
import re
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.servers import TOKEN, WebServer, dormouse
from config.serving import garbage
from lifecycle.engines.process.engine import ProcessEngine
from tests.servers import free_port

SECONDS = 120
#: How long the process may take to become calm, and the CPU time that it uses in a second if it is.
CALM_SECONDS = 60
IDLE_CPU_SECONDS = 0.1
#: A calm process has given memory back after this.
GIVEN_BACK_SECONDS = 2 * garbage.CALM_SECONDS + 1
#: Does what its work says.
AGENT = Path(__file__).with_name("agent.py")
STEADY, HOSTILE = "steady", ["hostile-1", "hostile-2", "hostile-3"]
HEAD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


@dataclass(frozen=True)
class Sample:
    """The resources that the web process used at one moment."""

    at: float
    memory_mb: float
    threads: int
    descriptors: int
    cpu_seconds: float


@dataclass
class Site:
    """A web process with an embedded supervisor."""

    server: WebServer
    log: Path
    refused: collections.Counter[str] = field(default_factory=collections.Counter)

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self.client = httpx.Client(base_url=self.server.url, headers=headers, timeout=SECONDS)

    def sample(self) -> Sample:
        cost = self.server.cost
        descriptors = len(list(Path(f"/proc/{self.server.process.pid}/fd").iterdir()))
        return Sample(time.monotonic(), cost.rss_bytes / 1e6, cost.threads, descriptors, cost.cpu_seconds)

    def sample_when_calm(self) -> Sample:
        """Wait until the process was idle for GIVEN_BACK_SECONDS, and sample it.

        Passwords of strangers that have left are still being checked, and then memory is given back.
        """
        before, idle = self.sample(), 0
        for _ in range(CALM_SECONDS):
            time.sleep(1)
            after = self.sample()
            idle = idle + 1 if after.cpu_seconds - before.cpu_seconds < IDLE_CPU_SECONDS else 0
            if idle >= GIVEN_BACK_SECONDS:
                break
            before = after
        return after

    def dispatch_ms(self) -> float:
        return self._timed_ms("POST", f"/api/instances/{STEADY}/dispatch")

    def healthz_ms(self) -> float:
        return self._timed_ms("GET", "/healthz")

    def _timed_ms(self, method: str, path: str) -> float:
        began = time.perf_counter()
        try:
            answer = self.client.request(method, path)
            self.note(path, "" if answer.is_success else str(answer.status_code))
        except httpx.HTTPError as error:
            self.note(path, type(error).__name__)
        return (time.perf_counter() - began) * 1000

    def note(self, path: str, trouble: str) -> None:
        """Count a permitted request that got no answer, or was refused."""
        if trouble:
            self.refused[f"{path}: {trouble}"] += 1

    def tracebacks(self) -> collections.Counter[str]:
        """Return how often each last line of a traceback is in the log."""
        found: collections.Counter[str] = collections.Counter()
        for part in self.log.read_text(errors="replace").split("Traceback (most recent call last)")[1:]:
            found[next((line for line in part.splitlines()[1:] if line and not line.startswith(" ")), "?")] += 1
        return found

    @property
    def has_troubles(self) -> bool:
        return bool(self.refused or self.tracebacks())

    def print_troubles(self) -> None:
        for what, found in (("refused", self.refused), ("tracebacks in the log", self.tracebacks())):
            print(f"{what}: {sum(found.values())}")
            for name, count in found.most_common(10):
                print(f"  {count} {name}")


def medians(site: Site, times: int) -> tuple[float, float]:
    """Return the medians of a warm dispatch and of a health check, in ms."""
    both = [(site.dispatch_ms(), site.healthz_ms()) for _ in range(times)]
    return statistics.median(one for one, _ in both), statistics.median(one for _, one in both)


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Provide a web process on an empty database, with one steady agent and some hostile ones."""
    agents = folder / "agents.toml"
    agents.write_text("\n".join(_table(name, "1h" if name == STEADY else "2s") for name in [STEADY, *HOSTILE]))
    settings = {"DORMOUSE_AGENTS_FILE": str(agents), "DORMOUSE_RUN_DIR": str(folder / "run")}
    private = {"DORMOUSE_VAR_DIR": str(folder / "var"), "DORMOUSE_SUPERVISOR": "embedded"}
    try:
        with dormouse(folder, **settings, **private) as (server, _):
            yield Site(server, folder / "dormouse.log")
    finally:
        engine = ProcessEngine(agents, folder / "run")
        for one in engine.instances():
            engine.stop(one.name, 0)


def _table(name: str, idle_timeout: str) -> str:
    port = free_port()
    command = f"{sys.executable} {AGENT} {port}"
    return f'[{name}]\ncommand = "{command}"\nport = {port}\nstop-timeout = "1s"\nidle-timeout = "{idle_timeout}"\n'
