"""Work that takes much longer than the idle timeout, and says nothing meanwhile."""

import time
from datetime import datetime, timedelta

import httpx
import pytest

from lifecycle.models import Instance, Lease
from tests.docker.support.from_outside import WORK, types
from tests.servers import DEADLINE_SECONDS, wait_for

IDLE_SECONDS = 1
#: Of the contract: what a dead process held is given back within it.
TAKEN_OVER_SECONDS = 30


@pytest.fixture
def worker(containers):
    return containers.create(environment={"HOLD": "1"}, idle_timeout=f"{IDLE_SECONDS}s", **WORK)


def shown(server, name):
    answer = httpx.get(f"{server.url}/api/instances/{name}", headers=server.bearer, timeout=DEADLINE_SECONDS)
    return answer.json()


def silent_work(server, name):
    """The answer of work that has begun, and of which no byte more comes before /go."""
    url = f"{server.url}/api/instances/{name}/dispatch"
    return httpx.stream("POST", url, content="x", headers=server.bearer, timeout=DEADLINE_SECONDS)


def four_idle_timeouts_pass():
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 4 * IDLE_SECONDS)


def test_it_is_not_stopped_and_shown_as_at_work_until_it_ends(server, containers, worker, engine_log):
    with silent_work(server, worker) as answer:
        parts = answer.iter_text()
        next(parts)
        four_idle_timeouts_pass()
        seen = shown(server, worker)
        containers.touch(worker, "/go")
        assert "".join(parts).endswith("done\n")
    assert engine_log.actions(worker) == ["start"]
    assert (seen["state"], seen["sleeps_at"]) == ("ready", None)
    assert [lease["age_seconds"] >= 4 * IDLE_SECONDS for lease in seen["leases"]] == [True]


def test_when_its_process_is_killed_it_sleeps_again_soon(server, serve_docker, containers, worker, engine_log):
    other = serve_docker()
    with silent_work(server, worker) as answer:
        parts = answer.iter_text()
        next(parts)
        four_idle_timeouts_pass()
        assert engine_log.actions(worker) == ["start"]
        killed = time.time()
        server.kill()
        wait_for(lambda: "lazy_stopped" in types(worker), what="its sleep")
    died = engine_log.of(worker)[1].at - killed
    print(f"asleep {died:.1f} s after the kill, with an idle timeout of {IDLE_SECONDS} s")
    assert IDLE_SECONDS <= died <= IDLE_SECONDS + TAKEN_OVER_SECONDS
    assert not Lease.objects.exists()
    assert shown(other, worker)["state"] == "asleep"


def test_looking_says_when_it_will_sleep_and_prolongs_nothing(server, containers, engine_log):
    name = containers.create(idle_timeout=f"{3 * IDLE_SECONDS}s", **WORK)
    httpx.post(f"{server.url}/api/instances/{name}/dispatch", headers=server.bearer, timeout=DEADLINE_SECONDS)
    last_used = wait_for(lambda: not Lease.objects.exists() and Instance.objects.get(pk=name).last_used)
    told = set()

    def look():
        told.add(shown(server, name)["sleeps_at"])
        return "lazy_stopped" in types(name)

    wait_for(look, what="its sleep in spite of the looks")
    told.discard(None)
    (sleeps_at,) = map(datetime.fromisoformat, told)
    assert sleeps_at - last_used == pytest.approx(timedelta(seconds=3 * IDLE_SECONDS), abs=timedelta(milliseconds=1))
    assert engine_log.of(name)[1].at >= sleeps_at.timestamp()
    assert engine_log.actions(name) == ["start", "die"]
