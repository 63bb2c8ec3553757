"""How long a wake takes in a Docker Swarm: a scale-up by hand with a tight probe, and Dormouse."""

import socket
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

from benchmarks.load.dispatches import Waker
from benchmarks.report import Section, Table, number, percentile, ratio
from benchmarks.servers import dormouse
from tests.docker.support.containers import BUSYBOX, PORT
from tests.servers import wait_for
from tests.swarm.support import HOST, Services, connect, load_image, node_host

BOOT_SECONDS = ("0", "1")
SECONDS = 60
LABELS = {"ready_path": "/", "dispatch_path": "/cgi-bin/work", "idle_timeout": "0"}
TITLE = "Cold start in a swarm"
ABOUT = """\
Services of one image in a swarm of two nodes on this machine, whose agent listens a while after its container runs;
{times} wakes of each, by turns. *By hand*: the call that `docker service scale` makes, a tight loop that asks the
manager for the task's port, then `GET /` in a tight loop. *Dormouse*: `POST /api/instances/NAME/dispatch` to a sleeping
one, until the moment in its event. The goal is 1.1x."""


def run(folder: Path, quick: bool) -> Section:
    if not HOST or not BUSYBOX.exists():
        how = "`.ci/swarm start DIR` (as root, with busybox-static) starts one and prints what to set."
        return Section(TITLE, f"Not measured: DORMOUSE_TEST_SWARM_HOST names no swarm. {how}")
    times = 3 if quick else 20
    for node in ("manager", "worker"):
        with closing(connect(node_host(node))) as api:
            load_image(api)
    with closing(connect(HOST)) as api:
        services = Services(api)
        try:
            with dormouse(folder, DORMOUSE_ENGINE="swarm", DOCKER_HOST=HOST) as (server, environment):
                path = environment["DATABASE_URL"].removeprefix("sqlite:///")
                with closing(sqlite3.connect(path, isolation_level=None)) as database:
                    rows = measure(services, Waker(server.url, database), times)
        finally:
            services.remove_all()
    return Section(TITLE, ABOUT.format(times=times), {"": Table(["", "by hand", "Dormouse", "ratio"], rows)})


def measure(services: Services, waker: Waker, times: int) -> list[list[str]]:
    rows = []
    for boot in BOOT_SECONDS:
        names = [services.create(environment={"BOOT": boot}, **cast(Any, LABELS)) for _ in range(2)]
        by_hand: list[float] = []
        ours: list[float] = []
        for turn in range(times + 1):
            found = scale_by_hand(services, names[0]), wake(services, waker, names[1])
            names.reverse()
            if turn:  # the first turn warms everything up
                by_hand.append(found[0])
                ours.append(found[1])
        for percent in (50, 95):
            one, other = percentile(by_hand, percent), percentile(ours, percent)
            cells = [f"{number(one)} ms", f"{number(other)} ms", ratio(other, one)]
            rows.append([f"ready after {boot} s, p{percent}", *cells])
    return rows


def scale_by_hand(services: Services, name: str) -> float:
    """Scale a service up, and return how long it took until it answered, in ms."""
    nodes: dict[str, Any] = {one["ID"]: one["Status"]["Addr"] for one in services.api.nodes()}
    began = time.monotonic()
    services.scale(name, 1)
    while not (running := services.running(name)):
        pass
    task = running[0]
    published = next(one["PublishedPort"] for one in task["Status"]["PortStatus"]["Ports"] if one["TargetPort"] == PORT)
    ask_until_it_answers((nodes[task["NodeID"]], published))
    took = (time.monotonic() - began) * 1000
    scale_down(services, name)
    return took


def ask_until_it_answers(address: tuple[str, int]) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(address, 1) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            if connection.recv(1):
                return
    raise AssertionError("the agent never answered")


def wake(services: Services, waker: Waker, name: str) -> float:
    began, seen = waker.wake(name)
    scale_down(services, name)
    waker.put_to_sleep(name)
    return (seen - began) / 1e6


def scale_down(services: Services, name: str) -> None:
    services.scale(name, 0)
    wait_for(lambda: not services.tasks(name), what="the end of its tasks")
