"""How long a wake takes, and how late it is seen: the floor, Dormouse, and JupyterHub's readiness wait."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from docker import APIClient

from benchmarks.load.dispatches import Agent, Waker, added_ms, resumed_ms
from benchmarks.report import Section, Table, number, percentile, ratio
from benchmarks.servers import dormouse
from tests.docker.support.containers import BUSYBOX, IMAGE, Containers, image, remove_marks
from tests.servers import PROJECT, free_port

HOST = os.environ.get("DORMOUSE_TEST_DOCKER_HOST", "")
JUPYTERHUB = Path(sys.prefix) / "bench" / "bin" / "python"
BOOT_SECONDS = ("0", "0.3", "1", "3")
LABELS = {"ready_path": "/", "dispatch_path": "/cgi-bin/at-once", "idle_timeout": "0"}

TITLE = "Cold start"
ABOUT = """\
Containers of one image on a real Docker Engine, whose agent listens a while after its container runs; {times} starts of
each, by turns. *Floor*: `start` through the Docker SDK, then `GET /` in a tight loop, which also tells the agent's own
ready moment. *Dormouse*: `POST /api/instances/NAME/dispatch` to a sleeping one, until the moment in its event.
*JupyterHub*: `wait_for_http_server` of jupyterhub, asked at the end of the floor's own `start`, on the same container.
Late is how long after the agent's ready moment it was seen. Dormouse runs without its supervisor, so that the engine's
other containers are left alone. The ratio is Dormouse's to the floor. The goal is 1.05x at p50."""
ABOUT_ADDED = "A dispatch to a running instance beside the same request to its agent, by turns, {times} of each."
ABOUT_RESUMED = """\
A dispatch to a paused instance (`dormouse.sleep=pause`) until its answer, beside `unpause` through the Docker SDK and
the same request to its agent, by turns, {times} of each. The goal is 25 ms at p50."""


@dataclass
class Times:
    """The times of one kind of container, in ms."""

    floor: list[float] = field(default_factory=list)
    dormouse: list[float] = field(default_factory=list)
    dormouse_late: list[float] = field(default_factory=list)
    jupyterhub: list[float] = field(default_factory=list)
    jupyterhub_late: list[float] = field(default_factory=list)


def run(folder: Path, quick: bool) -> Section:
    if not HOST:
        how = "`.ci/dockerd start DIR` (as root) starts one and prints what to set."
        return Section(TITLE, f"Not measured: DORMOUSE_TEST_DOCKER_HOST names no Docker Engine. {how}")
    if not BUSYBOX.exists():
        return Section(TITLE, "Not measured: the agent's image needs busybox (apt-get install busybox-static).")
    boots, times, requests = (BOOT_SECONDS[1:3], 2, 20) if quick else (BOOT_SECONDS, 20, 300)
    with ExitStack() as stack:
        containers = stack.enter_context(engine())
        server, environment = stack.enter_context(dormouse(folder, DORMOUSE_ENGINE="docker", DOCKER_HOST=HOST))
        database = sqlite3.connect(environment["DATABASE_URL"].removeprefix("sqlite:///"), isolation_level=None)
        waker = Waker(server.url, stack.enter_context(closing(database)))
        hub = stack.enter_context(jupyterhub())
        agents = {boot: [new_agent(containers, boot) for _ in range(2)] for boot in boots}
        measured = measure(agents, waker, hub, times)
        direct, dispatched = added_ms(new_agent(containers, "0"), waker, requests)
        by_hand, resumed = resumed_ms(new_agent(containers, "0", sleep="pause"), waker, requests)
    missing = "" if hub else " JupyterHub was not measured: `make bench` installs it."
    tables = {
        "": table(measured),
        ABOUT_ADDED.format(times=requests): added(direct, dispatched, "to the agent"),
        ABOUT_RESUMED.format(times=requests): added(by_hand, resumed, "by hand"),
    }
    return Section(TITLE, ABOUT.format(times=times) + missing, tables)


@contextmanager
def engine() -> Iterator[Containers]:
    with closing(APIClient(base_url=HOST, version="auto", timeout=120)) as api:
        api.import_image_from_data(image(), repository=IMAGE, changes=["CMD /agent"])
        remove_marks(api)  # of the installation that another section had
        containers = Containers(api)
        remove_marks(api)  # each measurement has a database of its own
        try:
            yield containers
        finally:
            containers.remove_all()
            remove_marks(api)


def new_agent(containers: Containers, boot_seconds: str, **labels: str) -> Agent:
    port = free_port()
    name = containers.create(environment={"BOOT": boot_seconds}, host_port=port, **cast(Any, LABELS | labels))
    return Agent(containers.api, name, port)


Hub = subprocess.Popen[str] | None


@contextmanager
def jupyterhub() -> Iterator[Hub]:
    if not JUPYTERHUB.exists():
        yield None
        return
    command = [str(JUPYTERHUB), "-m", "benchmarks.compared.jupyterhub_wait"]
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.DEVNULL,
    }  # each failed try is a line
    with subprocess.Popen(command, cwd=PROJECT, text=True, **pipes) as process:
        yield process
        pipe(process.stdin).close()


def pipe(end: IO[str] | None) -> IO[str]:
    assert end
    return end


def measure(agents: dict[str, list[Agent]], waker: Waker, hub: Hub, times: int) -> dict[str, Times]:
    found = {boot: Times() for boot in agents}
    for turn in range(times + 1):
        for boot, (one, other) in agents.items():
            into = found[boot] if turn else Times()  # the first turn warms everything up
            start_by_hand(one, hub, into)
            wake(other, waker, into)
            agents[boot].reverse()
    return found


def start_by_hand(agent: Agent, hub: Hub, times: Times) -> None:
    with agent.watched() as watch:
        began = agent.start()
        if hub:
            print(agent.url, file=pipe(hub.stdin), flush=True)
        ready = watch.ready_ns()
        times.floor.append((ready - began) / 1e6)
        if hub:
            seen = int(pipe(hub.stdout).readline())
            times.jupyterhub.append((seen - began) / 1e6)
            times.jupyterhub_late.append((seen - ready) / 1e6)
    agent.kill()


def wake(agent: Agent, waker: Waker, times: Times) -> None:
    with agent.watched() as watch:
        began, seen = waker.wake(agent.name)
        times.dormouse.append((seen - began) / 1e6)
        times.dormouse_late.append((seen - watch.ready_ns()) / 1e6)
    agent.kill()
    waker.put_to_sleep(agent.name)


def table(measured: dict[str, Times]) -> Table:
    rows = []
    for boot, times in measured.items():
        for percent in (50, 95):
            floor, ours, late, theirs, theirs_late = (
                percentile(values, percent)
                for values in (
                    times.floor,
                    times.dormouse,
                    times.dormouse_late,
                    times.jupyterhub,
                    times.jupyterhub_late,
                )
            )
            cells = [f"{number(ms)} ms" for ms in (floor, ours, theirs, late, theirs_late)]
            rows.append([f"ready after {boot} s, p{percent}", *cells[:2], ratio(ours, floor), *cells[2:]])
    head = ["", "floor", "Dormouse", "ratio", "JupyterHub", "Dormouse late", "JupyterHub late"]
    return Table(head, rows)


def added(direct: list[float], dispatched: list[float], name: str) -> Table:
    rows = []
    for percent in (50, 95):
        one, other = percentile(direct, percent), percentile(dispatched, percent)
        rows.append([f"p{percent}", *(f"{number(ms)} ms" for ms in (one, other, other - one))])
    return Table(["", name, "dispatched", "added"], rows)
