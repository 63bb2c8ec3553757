"""Starts that fail on a real swarm: each has its cause and its words, and the service is scaled down again."""

import pytest

from events.models import EventLog
from lifecycle.exceptions import Cause, StartFailed
from tests.docker.support.containers import PORT
from tests.servers import wait_for

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
