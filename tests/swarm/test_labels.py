"""What must be true of a service, and what is said if it is not."""

import pytest

from lifecycle.engines.docker.engine import DockerEngine
from lifecycle.exceptions import LabelError, Missing, StartRejected
from tests.docker.support.containers import PORT
from tests.servers import wait_for
from tests.swarm.support import HOST, IMAGE

#: By name: a part of a specification that makes a service unfit.
CONTAINER = {"ContainerSpec": {"Image": IMAGE}}
MISFITS = {
    "global mode": ({"Mode": {"Global": {}}, "EndpointSpec": {}}, "its mode is Global"),
    "a job": (
        {"Mode": {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 0}}, "EndpointSpec": {}},
        "its mode is ReplicatedJob",
    ),
    "the default restart condition": ({"TaskTemplate": CONTAINER}, "its restart condition is any"),
    "restarted on failure": (
        {"TaskTemplate": CONTAINER | {"RestartPolicy": {"Condition": "on-failure"}}},
        "its restart condition is on-failure",
    ),
}


def label_error(engine, name):
    seen = engine.inspect(name)
    assert isinstance(seen.labels, LabelError)
    return seen.labels


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_service_that_cannot_sleep_is_a_label_error(engine, services, misfit):
    changes, words = MISFITS[misfit]
    if "Global" in str(changes):  # at no node, so that nothing runs
        never = {"Placement": {"Constraints": ["node.labels.never==true"]}, "RestartPolicy": {"Condition": "none"}}
        changes = changes | {"TaskTemplate": CONTAINER | never}
    name = services.create(changes=changes)
    assert words in str(label_error(engine, name))
    with pytest.raises(StartRejected, match=words):
        engine.start(name)


@pytest.mark.parametrize(("publish", "words"), [("ingress", "the routing mesh"), ("", "is not published")])
def test_a_port_that_no_single_task_is_reached_at_is_a_label_error(engine, services, publish, words):
    found = label_error(engine, services.create(publish=publish, port=str(PORT)))
    assert (found.label, words in found.reason) == ("dormouse.port", True)


def test_a_service_that_is_to_be_paused_is_a_label_error(engine, services):
    assert label_error(engine, services.create(sleep="pause")).label == "dormouse.sleep"


def test_labels_of_the_containers_do_not_count(engine, services):
    labels = {"Labels": {"dormouse.enable": "true", "dormouse.idle-timeout": "1s"}}
    template = {"ContainerSpec": CONTAINER["ContainerSpec"] | labels, "RestartPolicy": {"Condition": "none"}}
    stranger = services.create(labelled=False, changes={"TaskTemplate": template})
    with pytest.raises(Missing):
        engine.inspect(stranger)
    seen = engine.inspect(services.create(changes={"TaskTemplate": template}))
    assert seen.settings().idle_timeout.total_seconds() == 900
    assert "labels of its containers do not count" in " ".join(seen.warnings)


def test_a_task_is_a_label_error_for_the_engine_of_single_containers(engine, services, swarm_api):
    labels = {"Labels": {"dormouse.enable": "true"}}
    template = {"ContainerSpec": CONTAINER["ContainerSpec"] | labels, "RestartPolicy": {"Condition": "none"}}
    placed = {"Placement": {"Constraints": ["node.role==manager"]}}
    name = services.create(changes={"TaskTemplate": template | placed}, scaled_to=1)
    wait_for(lambda: services.running(name), what="the task")
    docker = DockerEngine({"DOCKER_HOST": HOST})
    task = wait_for(lambda: [one for one in docker.instances() if one.name.startswith(name)])[0]
    assert "it is a task of a service" in str(docker.inspect(task.name).labels)
    for client in docker._clients.values():
        client.close()
