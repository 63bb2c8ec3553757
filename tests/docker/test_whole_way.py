"""A real web process, a real Docker Engine, real containers: the whole way of an event, seen from outside."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from lifecycle.models import EngineStatus, Instance, Lease
from tests.docker.support.containers import Containers
from tests.docker.support.from_outside import WORK, dispatch, logged, types
from tests.servers import DEADLINE_SECONDS, free_port, wait_for


def seconds_since_boot() -> float:
    with open("/proc/uptime") as file:  # noqa: PTH123  # as the agent reads it
        return float(file.read().split()[0])


class EngineEvents:
    """Docker's own events of one container, followed live, each with its time."""

    def __init__(self, containers: Containers, name: str) -> None:
        self.times: dict[str, float] = {}
        self._stream = containers.api.events(decode=True, filters={"container": name})
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        for event in self._stream:
            self.times[event["Action"]] = event["timeNano"] / 1e9

    def time(self, action: str) -> float:
        return wait_for(lambda: self.times.get(action, 0.0), what=f"the engine's {action}")

    def close(self) -> None:
        self._stream.close()


@pytest.fixture
def watch(containers: Containers) -> Iterator[Callable[[str], EngineEvents]]:
    watched: list[EngineEvents] = []

    def follow(name: str) -> EngineEvents:
        watched.append(EngineEvents(containers, name))
        return watched[-1]

    yield follow
    for events in watched:
        events.close()


def test_a_dispatch_to_a_sleeper_answers_what_the_agent_answers(server, containers):
    name = containers.create(environment={"BOOT": "2"}, **WORK)
    answer = dispatch(server, name, "the work")
    assert (answer.status_code, answer.text) == (200, "working on: the work\ndone\n")
    assert answer.headers["content-type"] == "text/plain"
    assert types(name) == ["lazy_started"]


def test_an_answer_says_how_long_the_wake_took(server, containers):
    name = containers.create(environment={"BOOT": "2"}, **WORK)
    wake_ms = int(dispatch(server, name).headers["server-timing"].removeprefix("wake;dur="))
    assert wake_ms >= logged(name)[0].data["latency_ms"] >= 2000
    assert "server-timing" not in dispatch(server, name).headers


def test_the_first_byte_comes_before_the_agent_has_written_its_last(server, containers):
    name = containers.create(environment={"HOLD": "1"}, **WORK)
    url = f"{server.url}/api/instances/{name}/dispatch"
    with httpx.stream("POST", url, content="x", headers=server.bearer, timeout=DEADLINE_SECONDS) as answer:
        parts = answer.iter_text()
        first = next(parts)
        containers.touch(name, "/go")
        assert first + "".join(parts) == "working on: x\ndone\n"
    assert "done" not in first


def test_a_caller_that_hangs_up_cancels_no_wake_and_leaves_no_lease(server, containers):
    name = containers.create(environment={"BOOT": "2"}, **WORK)
    with httpx.Client(headers=server.bearer) as caller, pytest.raises(httpx.ReadTimeout):
        caller.post(f"{server.url}/api/instances/{name}/dispatch", timeout=0.5)
    wait_for(lambda: types(name) == ["lazy_started"])
    assert containers.is_running(name)
    # A caller that has hung up is asked once a second, because one that has only finished sending looks the same.
    wait_for(lambda: not Lease.objects.exists())


def test_started_is_told_when_the_probe_succeeds_and_not_before(server, containers):
    name = containers.create(environment={"BOOT": "2"}, dispatch_path="/cgi-bin/work", ready_path="/cgi-bin/work")
    answers: list[httpx.Response] = []
    dispatching = threading.Thread(target=lambda: answers.append(dispatch(server, name)))
    dispatching.start()
    wait_for(lambda: containers.is_running(name))
    assert types(name) == []
    dispatching.join()
    assert types(name) == ["lazy_started"]


def test_latency_agrees_with_what_is_seen_from_outside(server, containers, watch):
    """The latency is a little longer than from the engine's start event to the agent's first request."""
    name = containers.create(environment={"BOOT": "2"}, dispatch_path="/cgi-bin/work", ready_path="/cgi-bin/work")
    engine = watch(name)
    boot = wall_of_boot()
    dispatched = seconds_since_boot()
    dispatch(server, name)
    answered = seconds_since_boot()
    first_request = float(containers.read(name, "/first").split()[0])
    data = logged(name)[0].data
    latency = data["latency_ms"] / 1000
    running = engine.time("start") - boot
    assert dispatched <= running <= first_request <= answered
    assert first_request - running - 0.1 <= latency <= answered - dispatched + 0.1
    assert data["start_ms"] + data["ready_ms"] == pytest.approx(data["latency_ms"], abs=2)
    assert data["ready_ms"] / 1000 == pytest.approx(first_request - running, abs=0.5)


def wall_of_boot() -> float:
    """Return the wall time at which /proc/uptime was 0."""
    return datetime.now().timestamp() - seconds_since_boot()


def test_the_idle_are_stopped_and_that_is_told_after_the_engine_has_stopped_them(server, containers, watch):
    name = containers.create(idle_timeout="1s", **WORK)
    engine = watch(name)
    dispatch(server, name)
    wait_for(lambda: "lazy_stopped" in types(name))
    assert not containers.is_running(name)
    stopped = logged(name)[-1]
    assert engine.time("die") <= stopped.at.timestamp()
    assert stopped.data["idle_seconds"] >= 1


def test_who_works_longer_than_the_idle_timeout_is_not_stopped(server, containers):
    name = containers.create(environment={"HOLD": "1"}, idle_timeout="500ms", **WORK)
    url = f"{server.url}/api/instances/{name}/dispatch"
    with httpx.stream("POST", url, content="x", headers=server.bearer, timeout=DEADLINE_SECONDS) as answer:
        parts = answer.iter_text()
        next(parts)
        sleeper = containers.create(idle_timeout="500ms", **WORK)
        dispatch(server, sleeper)
        wait_for(lambda: "lazy_stopped" in types(sleeper))
        assert containers.is_running(name)
        containers.touch(name, "/go")
        "".join(parts)
    wait_for(lambda: "lazy_stopped" in types(name))


def test_a_taken_port_is_told_to_the_caller_and_in_the_log_and_the_next_dispatch_works(server, containers):
    port = free_port()
    holder = containers.create(host_port=port)
    containers.api.start(holder)
    name = containers.create(host_port=port, **WORK)
    answer = dispatch(server, name)
    failed = logged(name)[0]
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json()["cause"] == failed.data["cause"] == "port_conflict"
    assert answer.json()["error"] == failed.data["error"]
    containers.api.stop(holder, timeout=5)
    assert dispatch(server, name, "again").text == "working on: again\ndone\n"
    assert types(name) == ["lazy_start_failed", "lazy_started"]


def test_one_that_exits_before_it_is_ready_is_told_with_its_output(server, containers):
    name = containers.create(command=["sh", "-c", "echo no model configured; exit 7"])
    answer = dispatch(server, name)
    assert answer.status_code == 503
    assert logged(name)[0].data == {
        "instance": name,
        "run": 1,
        "error": "exited with code 7 before it was ready",
        "cause": "exited",
        "exit_code": 7,
        "log_tail": "no model configured\n",
        "trigger": "dispatch",
        "by": "environment",
        "by_kind": "token",
    }


def test_a_container_without_the_label_is_never_touched(server, containers):
    name = containers.create(labelled=False)
    containers.api.start(name)
    before = containers.state(name)
    assert dispatch(server, name).status_code == 404
    own = containers.create(idle_timeout="500ms", **WORK)
    dispatch(server, own)
    wait_for(lambda: "lazy_stopped" in types(own))
    assert containers.state(name) == before
    assert not Instance.objects.filter(pk=name).exists()


def test_one_that_others_start_is_shown_and_no_event_is_invented(server, containers):
    name = containers.create(**WORK)
    wait_for(lambda: Instance.objects.filter(pk=name, state="asleep"))
    containers.api.start(name)
    wait_for(lambda: Instance.objects.filter(pk=name, state="ready"))
    containers.api.stop(name, timeout=5)
    wait_for(lambda: Instance.objects.filter(pk=name, state="asleep"))
    assert types(name) == []


def test_without_an_engine_the_page_says_so(serve, tmp_path):
    server = serve(DORMOUSE_ENGINE="docker", DORMOUSE_SUPERVISOR="embedded", DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    status = wait_for(lambda: EngineStatus.objects.filter(engine="docker").first())
    assert status.error.startswith("the Docker Engine cannot be reached (No such file or directory)")
    listed: dict[str, Any] = httpx.get(f"{server.url}/api/instances", headers=server.bearer).json()
    assert listed["engines"][0]["error"] == status.error
    assert dispatch(server, "anyone").status_code == 503
