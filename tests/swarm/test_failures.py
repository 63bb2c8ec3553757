"""Starts that fail on a real swarm: each has its cause and its words, and the service is scaled down again."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from events.models import EventLog
from lifecycle.engines.base import Outcome
from lifecycle.engines.docker.addresses import Viewpoint
from lifecycle.engines.swarm.failures import NO_NODE
from lifecycle.engines.swarm.inspection import inspection
from lifecycle.exceptions import Cause, StartFailed
from tests.docker.support.containers import PORT
from tests.servers import wait_for
from tests.swarm.support import IMAGE

FIXED_PORT = {"EndpointSpec": {"Ports": [{"TargetPort": PORT, "PublishedPort": 18080, "PublishMode": "host"}]}}


def failure_of(lifecycle, services, name):
    with pytest.raises(StartFailed) as raised:
        lifecycle.waking.wake(name)
    assert services.replicas(name) == 0
    [event] = EventLog.objects.filter(instance=name)
    assert (event.type, event.data["cause"]) == ("container.lazy_start_failed", raised.value.cause)
    return raised.value


def test_no_node_fits(lifecycle, services):
    found = failure_of(lifecycle, services, services.create(constraints=("node.labels.gpu==true",)))
    assert found.cause is Cause.UNSCHEDULABLE
    assert found.error == (
        "no suitable node (scheduling constraints not satisfied on 2 nodes); "
        "correct its constraints, free a node, or add one"
    )


def test_a_start_waits_for_a_node_of_which_a_new_leader_has_not_heard(engine, services, worker, monkeypatch):
    monkeypatch.setattr("lifecycle.engines.swarm.engine.NO_NODE_SECONDS", 0)
    reads = []

    def nodes_of_a_new_leader(api, **_):
        reads.append(api)
        nodes = {one["ID"]: one | {"Status": {"State": "unknown"}} for one in api.nodes()}
        engine._latest_nodes = (0, nodes)
        return nodes

    monkeypatch.setattr(engine, "_nodes", nodes_of_a_new_leader)
    worker.drain()
    name = services.create(constraints=("node.role==worker",))
    with ThreadPoolExecutor(1) as starter:
        started = starter.submit(engine.start, name)
        wait_for(lambda: [NO_NODE in task["Status"].get("Err", "") for task in services.tasks(name)] == [True])
        seen = len(reads)
        wait_for(lambda: started.done() or len(reads) > seen + 1, what="the start to read that twice")
        worker.activate()
        assert started.result() is Outcome.DONE


def test_the_image_is_missing_on_the_node(lifecycle, services):
    found = failure_of(lifecycle, services, services.create(image="127.0.0.1:1/no-such-image:1"))
    assert found.cause is Cause.IMAGE_MISSING
    assert "its image is missing on a node: No such image: 127.0.0.1:1/no-such-image:1" in found.error


def test_it_exits_before_it_is_ready(lifecycle, services):
    """Its output is read before the service is scaled down, which makes the swarm forget it."""
    found = failure_of(lifecycle, services, services.create(command=["sh", "-c", "echo out of money; exit 3"]))
    assert (found.cause, found.exit_code, found.log_tail) == (Cause.EXITED, 3, "out of money\n")


def test_it_is_not_ready_in_time(lifecycle, services):
    name = services.create(command=["sh", "-c", "echo thinking; sleep 60 & wait"], start_timeout="1s")
    found = failure_of(lifecycle, services, name)
    assert (found.cause, found.log_tail) == (Cause.NOT_READY, "thinking\n")


def test_its_port_is_taken_on_every_node(lifecycle, services):
    holder = services.create(changes=FIXED_PORT, scaled_to=2)
    wait_for(lambda: len(services.running(holder)) == 2)
    found = failure_of(lifecycle, services, services.create(changes=FIXED_PORT))
    assert found.cause is Cause.PORT_CONFLICT
    assert found.error.startswith("no suitable node (host-mode port already in use on 2 nodes)")


def test_its_task_is_rejected_by_the_node(lifecycle, services):
    mount = {"Type": "bind", "Source": "/no/such/folder", "Target": "/data"}
    template = {
        "ContainerSpec": {"Image": IMAGE, "Mounts": [mount]},
        "RestartPolicy": {"Condition": "none"},
    }
    found = failure_of(lifecycle, services, services.create(changes={"TaskTemplate": template}))
    assert found.cause is Cause.START_REJECTED
    assert "bind source path does not exist: /no/such/folder" in found.error
    assert found.error.endswith("correct the service, or keep it off that node with a constraint")


def test_an_update_in_the_middle_of_a_wake_is_followed(lifecycle, services):
    """The task that replaces the first one keeps the run, and is probed at its own address."""
    name = services.create(environment={"BOOT": "3"})

    def update() -> str:
        [first] = wait_for(lambda: services.running(name), what="the first task")
        services.update(name, lambda spec: spec["TaskTemplate"].update(ForceUpdate=7))
        return str(first["ID"])

    with ThreadPoolExecutor(1) as other:
        updated = other.submit(update)
        seen = lifecycle.waking.wake(name)
    assert seen.incarnation.partition("@")[2] != updated.result()
    assert [event.type for event in EventLog.objects.filter(instance=name)] == ["container.lazy_started"]


def test_a_node_that_is_drained_in_the_middle_of_a_wake(lifecycle, services, worker):
    name = services.create(command=["sh", "-c", "echo moving; sleep 60 & wait"], constraints=("node.role==worker",))

    def drain() -> None:
        wait_for(lambda: services.running(name), what="the task")
        worker.drain()

    with ThreadPoolExecutor(1) as other:
        other.submit(drain)
        try:
            found = failure_of(lifecycle, services, name)
        finally:
            worker.activate()
    assert found.cause is Cause.INTERRUPTED
    assert found.error == (
        "ended before it was ready, because its node was drained; the next dispatch starts it on another one"
    )


def test_of_a_start_whose_node_is_lost_that_is_told(lifecycle, engine, services):
    """The swarm says so of the node; how it is lost is shown by the tests that kill one."""
    name = services.create()
    engine.start(name)
    service, _ = engine._read(name)
    [task] = service.tasks
    down = task.node | {"Status": task.node["Status"] | {"State": "down"}}
    seen = inspection(replace(service, tasks=[replace(task, node=down)]), "", Viewpoint())
    found = lifecycle.readiness.exit_failure(seen)
    assert (found.cause, "because its node is down" in found.error) == (Cause.INTERRUPTED, True)
