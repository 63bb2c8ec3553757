"""Real web processes and a real swarm, seen from outside."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from lifecycle.models import EngineStatus, Instance, Lease
from tests.docker.support.engine_log import LONG
from tests.docker.support.faulty_proxy import Canned, FaultyProxy
from tests.docker.support.from_outside import WORK, dispatch, logged, types
from tests.servers import wait_for
from tests.swarm.support import HOST, IMAGE, NO_LEADER

#: Rounds of a wake, a SIGKILL of one Dormouse, and an idle stop.
ROUNDS = 50 if LONG else 3


@pytest.fixture
def servers(serve_swarm):
    """Two processes, as behind a load balancer."""
    return [serve_swarm(), serve_swarm()]


def test_fifty_dispatches_to_a_sleeper_from_two_processes_make_one_start(servers, services):
    name = services.create(environment={"BOOT": "1"}, **WORK)
    with ThreadPoolExecutor(50) as callers:
        answers = list(callers.map(lambda n: dispatch(servers[n % 2], name, f"work {n}"), range(50)))
    assert [answer.text for answer in answers] == [f"working on: work {n}\ndone\n" for n in range(50)]
    assert len(services.tasks(name)) == 1
    assert types(name) == ["lazy_started"]


def test_the_swarm_and_the_log_agree_over_kills_of_dormouse(servers, services):
    """One process is killed in the middle of each wake; the other one finishes what it had begun."""
    name = services.create(environment={"BOOT": "0.5"}, idle_timeout="1s", **WORK)
    doomed, survivor = servers
    for number in range(ROUNDS):
        seen = len(logged(name))
        with ThreadPoolExecutor(1) as caller:
            asked = caller.submit(lambda: dispatch(doomed, name, "lost with its process"))
            wait_for(lambda: services.replicas(name) == 1, what="the scale-up")
            doomed.kill()
            assert isinstance(asked.exception(), httpx.TransportError)
        wait_for(lambda seen=seen: types(name)[seen:] == ["lazy_started", "lazy_stopped"], what="the idle stop")
        started, stopped = logged(name)[seen:]
        assert (started.data["recovered"], started.data["run"], stopped.data["run"]) == (True, number + 1, number + 1)
        assert (services.replicas(name), services.running(name)) == (0, [])
        doomed.restart()
    assert dispatch(survivor, name, "the work").text == "working on: the work\ndone\n"


def test_work_on_a_node_that_is_killed_breaks_off_and_the_next_goes_to_the_other_node(serve_swarm, services, worker):
    server = serve_swarm()
    name = services.create(environment={"HOLD": "1"}, **WORK)
    with ThreadPoolExecutor(1) as caller, worker.alone():
        asked = caller.submit(lambda: dispatch(server, name, "the work"))
        wait_for(lambda: Lease.objects.exists(), what="work in flight")
        assert services.node_of(name) == "worker"
        worker.kill()
        assert isinstance(asked.exception(), httpx.TransportError), "the answer had begun"
    wait_for(lambda: sorted(types(name)) == ["exited", "lazy_started", "work.failed"], what="what became of it")
    exited = next(event for event in logged(name) if event.type == "container.exited")
    assert (exited.data["cause"], exited.data["exit_code"], exited.data["work_in_flight"]) == ("lost", None, 1)
    wait_for(lambda: not Lease.objects.exists(), what="the end of its lease")
    with ThreadPoolExecutor(1) as caller:
        asked = caller.submit(lambda: dispatch(server, name, "more work"))
        wait_for(lambda: Lease.objects.exists(), what="more work in flight")
        services.let_go(name)
        assert asked.result().text == "working on: more work\ndone\n"
    assert services.node_of(name) == "manager"


def test_a_stop_on_a_node_that_is_lost_is_told_as_unconfirmed(serve_swarm, services, worker):
    server = serve_swarm()
    name = services.create(environment={"STOP": "30"}, constraints=("node.role==worker",), idle_timeout="1s", **WORK)
    assert dispatch(server, name, "the work").status_code == 200
    wait_for(lambda: Instance.objects.get(pk=name).state == "stopping", what="the stop")
    worker.kill()
    wait_for(lambda: types(name) == ["lazy_started", "lazy_stopped"], what="the stop")
    assert logged(name)[1].data["unconfirmed"] is True
    assert services.replicas(name) == 0


def test_agents_that_run_still_answer_while_the_managers_have_no_leader(serve_swarm, services):
    proxy = FaultyProxy(engine=HOST)
    server = serve_swarm(DORMOUSE_SWARM_MANAGERS=proxy.host)
    awake, asleep = (services.create(**WORK) for _ in range(2))
    assert dispatch(server, awake, "the work").status_code == 200
    lost = [proxy.answer(method, ".", Canned(500, {"message": NO_LEADER})) for method in ("GET", "POST")]
    for number in range(3):
        assert dispatch(server, awake, f"work {number}").text == f"working on: work {number}\ndone\n"
    refused = dispatch(server, asleep, "the work")
    assert (refused.status_code, refused.json()["cause"]) == (503, "engine_unreachable")
    assert "the quorum is lost" in refused.json()["error"]
    [failed] = logged(asleep)
    assert (failed.data["cause"], failed.data["error"]) == ("engine_unreachable", refused.json()["error"])
    wait_for(lambda: "the quorum is lost" in EngineStatus.objects.get().error, what="the page to say so")
    for rule in lost:
        proxy.rules.remove(rule)
    assert dispatch(server, asleep, "the work").text == "working on: the work\ndone\n"
    assert (types(awake), types(asleep)) == (["lazy_started"], ["lazy_start_failed", "lazy_started"])
    proxy.close()


def test_work_goes_to_both_tasks_in_turn_and_to_the_other_one_if_one_ends(servers, services):
    """Each task is on a node of its own, and says its host name."""
    script = "printf 'Content-Type: text/plain\\r\\n\\r\\n'; cat > /dev/null; cat /proc/sys/kernel/hostname"
    make = f'echo "#!/bin/sh\n{script}" > /www/cgi-bin/who; busybox chmod +x /www/cgi-bin/who; exec /agent'
    template = {
        "ContainerSpec": {"Image": IMAGE, "Command": ["sh", "-c", make]},
        "RestartPolicy": {"Condition": "none"},
        "Placement": {"MaxReplicas": 1},
    }
    name = services.create(
        replicas="2", dispatch_path="/cgi-bin/who", ready_path="/", changes={"TaskTemplate": template}
    )

    def ask(times: int) -> list[str]:
        return [dispatch(servers[number % 2], name, "who?").text for number in range(times)]

    wait_for(lambda: len(set(ask(8))) == 2, what="both tasks to be ready")
    found = ask(16)
    assert sorted(found.count(host) for host in set(found)) == [8, 8]
    services.kill(name)
    wait_for(lambda: len(services.running(name)) == 1, what="the end of one task")
    [left] = set(ask(8))
    assert left in found
    assert types(name)[0] == "lazy_started"
