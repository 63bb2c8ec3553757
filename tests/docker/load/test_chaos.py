"""Everything that people do to containers, at random, under steady dispatches: a minute, or 30 with DORMOUSE_LONG=1."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
import pytest
from django.db import connections

from events.models import EventLog
from lifecycle.models import Instance, Lease
from lifecycle.state_machine import State
from tests.docker.support.comparing import Comparison
from tests.docker.support.deeds import Deeds
from tests.docker.support.engine_log import LONG, EngineLog
from tests.docker.support.from_outside import dispatch
from tests.servers import Server, wait_for

AGENTS, CALLERS, SECONDS = (40, 8, 1800) if LONG else (6, 3, 45)
#: Longer than a claim of a dead process may stay, and than a busy machine takes for the rest.
SETTLED_SECONDS = 180


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
            name, began = random.choice(self.names), time.time()
            outcome = self._outcome(name)
            self.outcomes.append((name, began, time.time(), outcome))
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
def server(serve_docker, own_engine):
    return serve_docker(DOCKER_HOST=own_engine.host)


@pytest.fixture
def deeds(own_engine, server):
    made = Deeds(own_engine, server, [f"chaos-{number}" for number in range(AGENTS)])
    for name in made.names:
        made.create(name)
    yield made
    made.remove_all()


@pytest.fixture
def engine_log(own_engine):
    log = EngineLog(own_engine.api, ("start", "die", "pause", "unpause"), is_up=own_engine.is_up)
    yield log
    log.close()


def test_chaos(deeds, server, engine_log):
    ended = threading.Event()
    callers = Callers(server, deeds.names, ended)
    threads = [threading.Thread(target=callers.run) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            deeds.do_something()
            time.sleep(random.uniform(0, 0.6))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    outcomes = Counter(outcome for *_, outcome in callers.outcomes)
    print(f"deeds {dict(Counter(deed.what for deed in deeds.done))}; outcomes {dict(outcomes)}")
    deeds.make_whole()
    check_that_all_works(server, deeds.names)
    check_that_all_fall_asleep(deeds.names)
    assert outcomes["done"]
    assert not {"500", "400", "401", "403"} & set(outcomes)
    broken = [one for one in callers.outcomes if one[3] == "broken off"]
    assert [one for one in broken if not deeds.touching(*one[:3])] == []
    assert one_outcome_for_each_run()
    differences = Comparison(deeds, engine_log.all()).differences()
    print("\n".join(differences))  # whole, which the assertion's message is not
    assert differences == []
    assert "Traceback" not in server.log.read_text()


def check_that_all_works(server, names):
    """Every agent answers, no work is left in flight, and no claim is left."""
    for name in names:
        wait_for(lambda name=name: answers(server, name), SETTLED_SECONDS, f"{name} to answer")
    wait_for(lambda: not Lease.objects.exists(), SETTLED_SECONDS, "the last lease to end")
    claims = Instance.objects.filter(state__in=[State.STARTING, State.STOPPING])
    wait_for(lambda: not claims.exists(), SETTLED_SECONDS, "the last claim to be settled")


def check_that_all_fall_asleep(names):
    """Nothing is left awake, also under names that containers had for a moment."""
    awake = Instance.objects.exclude(state=State.ASLEEP)
    wait_for(lambda: not awake.exists(), SETTLED_SECONDS, "the last one to fall asleep")
    ghosts = Instance.objects.exclude(pk__in=names).filter(present=True)
    wait_for(lambda: not ghosts.exists(), SETTLED_SECONDS, "the temporary names to be gone")


def answers(server, name):
    try:
        return dispatch(server, name).status_code == 200
    except httpx.ReadTimeout:  # it waits for a claim of a dead process, and then for the start-timeout
        return False


def one_outcome_for_each_run():
    starts = EventLog.objects.filter(type__in=["container.lazy_started", "container.lazy_start_failed"])
    runs = Counter((event.instance, event.data["run"]) for event in starts)
    return max(runs.values()) == 1
