"""Everything that people do to containers, at random, under steady dispatches: a minute, or 30 with DORMOUSE_LONG=1."""

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest
from django.db import connections
from docker.errors import APIError

from events.models import EventLog
from lifecycle.models import Instance, Lease
from lifecycle.state_machine import State
from tests.docker.support.containers import Containers
from tests.docker.support.engine_log import LONG
from tests.docker.support.from_outside import WORK, dispatch
from tests.servers import Server, wait_for

AGENTS, CALLERS, SECONDS = (40, 8, 1800) if LONG else (6, 3, 45)
#: Longer than a claim of a dead process may stay, and than a busy machine takes for the rest.
SETTLED_SECONDS = 180
#: A deed may break work off that has begun so long after it, or ended so long before it was noted.
AROUND_SECONDS = 1
SLEEPS = [{"sleep": "stop"}, {"sleep": "pause"}, {"sleep": "stop", "start_timeout": "5s"}]


@dataclass
class Chaos:
    """Does things to containers, and notes what it did to which names, and when."""

    containers: Containers
    server: Server
    names: list[str]
    #: When it began and ended, what, and to which names. No name: to all.
    deeds: list[tuple[float, float, str, tuple[str, ...]]] = field(default_factory=list)

    def do_something(self):
        what = random.choices(list(self.WAYS), [weight for _, weight in self.WAYS.values()])[0]
        names = tuple(random.sample(self.names, 2 if what == "swap" else 1))
        began = time.monotonic()
        with suppress(APIError):  # it was not in the state for that
            self.WAYS[what][0](self, *names)
        self.deeds.append((began, time.monotonic(), what, () if what == "kill Dormouse" else names))

    def may_have_broken(self, name, began, ended):
        return any(
            start - AROUND_SECONDS <= ended and began <= end + AROUND_SECONDS and (not names or name in names)
            for start, end, _, names in self.deeds
        )

    def create(self, name):
        keys = random.choice(SLEEPS) | {"idle_timeout": random.choice(["300ms", "1s", "3s"])}
        environment = {"TAKES": random.choice(["0", "0.3", "2"])}
        self.containers.create(name=name, environment=environment, **cast(Any, WORK | keys))

    def _pause(self, name):
        self.containers.api.pause(name)
        time.sleep(random.uniform(0, 2))
        self.containers.api.unpause(name)

    def _rename(self, name):
        self.containers.api.rename(name, f"{name}-away")
        time.sleep(random.uniform(0, 2))
        self.containers.api.rename(f"{name}-away", name)

    def _swap(self, one, other):
        api = self.containers.api
        for old, new in [(one, f"{one}-away"), (other, one), (f"{one}-away", other)]:
            api.rename(old, new)

    def _recreate(self, name):
        self.containers.api.remove_container(name, force=True)
        time.sleep(random.uniform(0, 1))
        self.create(name)

    def _disconnect(self, name):
        self.containers.api.disconnect_container_from_network(name, "bridge")
        time.sleep(random.uniform(0, 2))
        self.containers.api.connect_container_to_network(name, "bridge")

    def _kill_dormouse(self, _):
        self.server.kill()
        self.server.restart()

    WAYS = {  # by name: what it does, and how often
        "start": (lambda self, name: self.containers.api.start(name), 4),
        "stop": (lambda self, name: self.containers.api.stop(name, timeout=1), 4),
        "kill": (lambda self, name: self.containers.api.kill(name), 4),
        "restart": (lambda self, name: self.containers.api.restart(name, timeout=0), 2),
        "pause": (_pause, 3),
        "rename": (_rename, 3),
        "swap": (_swap, 3),
        "recreate": (_recreate, 3),
        "disconnect": (_disconnect, 2),
        "kill Dormouse": (_kill_dormouse, 0.5),
    }


@dataclass
class Callers:
    """Dispatch again and again, and note every outcome."""

    server: Server
    names: list[str]
    ended: threading.Event
    #: The name, when the work began and ended, and its outcome.
    outcomes: list[tuple[str, float, float, str]] = field(default_factory=list)

    def run(self):
        while not self.ended.is_set():
            name, began = random.choice(self.names), time.monotonic()
            outcome = self._outcome(name)
            self.outcomes.append((name, began, time.monotonic(), outcome))
            time.sleep(random.uniform(0, 0.5))
        connections.close_all()

    def _outcome(self, name):
        try:
            answer = dispatch(self.server, name, "x")
        except httpx.TransportError:
            time.sleep(0.2)
            return "broken off"
        if answer.status_code == 200:
            return "done" if answer.text == "working on: x\ndone\n" else "broken off"
        if answer.status_code == 503:
            return answer.json().get("cause", "503")
        return "broken off" if answer.status_code == 502 else str(answer.status_code)


@pytest.fixture
def chaos(containers, server):
    made = Chaos(containers, server, [f"chaos-{number}" for number in range(AGENTS)])
    for name in made.names:
        made.create(name)
        containers.remove_too(f"{name}-away")
    return made


def test_chaos(chaos, server, containers):
    ended = threading.Event()
    callers = Callers(server, chaos.names, ended)
    threads = [threading.Thread(target=callers.run) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            chaos.do_something()
            time.sleep(random.uniform(0, 0.6))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    deeds = Counter(what for _, _, what, _ in chaos.deeds)
    outcomes = Counter(outcome for *_, outcome in callers.outcomes)
    print(f"deeds {dict(deeds)}; outcomes {dict(outcomes)}")
    make_whole(chaos, containers)
    check_that_all_works(server, chaos.names)
    assert outcomes["done"]
    assert not {"500", "400", "401", "403"} & set(outcomes)
    broken = [one[:3] for one in callers.outcomes if one[3] == "broken off"]
    assert [one for one in broken if not chaos.may_have_broken(*one)] == []
    assert one_outcome_for_each_run()
    assert "Traceback" not in server.log.read_text()


def make_whole(chaos, containers):
    """Undo what a deed has left half done."""
    listed = {one["Names"][0].removeprefix("/") for one in containers.api.containers(all=True)}
    for name in chaos.names:
        if name not in listed:
            with suppress(APIError):
                containers.api.remove_container(f"{name}-away", force=True)
            chaos.create(name)
        with suppress(APIError):
            containers.api.connect_container_to_network(name, "bridge")


def check_that_all_works(server, names):
    """Every agent answers, no work is left in flight, and no claim is left."""
    for name in names:
        wait_for(lambda name=name: answers(server, name), SETTLED_SECONDS, f"{name} to answer")
    wait_for(lambda: not Lease.objects.exists(), SETTLED_SECONDS, "the last lease to end")
    claims = Instance.objects.filter(state__in=[State.STARTING, State.STOPPING])
    wait_for(lambda: not claims.exists(), SETTLED_SECONDS, "the last claim to be settled")


def answers(server, name):
    try:
        return dispatch(server, name).status_code == 200
    except httpx.ReadTimeout:  # it waits for a claim of a dead process, and then for the start-timeout
        return False


def one_outcome_for_each_run():
    starts = EventLog.objects.filter(type__in=["container.lazy_started", "container.lazy_start_failed"])
    runs = Counter((event.instance, event.data["run"]) for event in starts)
    return max(runs.values()) == 1
