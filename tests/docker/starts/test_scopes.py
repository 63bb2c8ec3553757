"""Installations on one engine, each with a scope of its own, never touch each other's containers."""

import os

import pytest

from lifecycle.engines.docker.engine import DockerEngine
from lifecycle.exceptions import Missing
from lifecycle.models import Instance
from tests.docker.support.engine import HOST
from tests.docker.support.from_outside import WORK, dispatch
from tests.servers import wait_for

SCOPES = ("", "team-a", "team-b")


@pytest.fixture
def engines(containers):
    """An engine of each scope."""
    return {scope: DockerEngine(os.environ | {"DOCKER_HOST": HOST}, scope=scope) for scope in SCOPES}


@pytest.fixture
def names(containers):
    """By scope, a container of it. One says nothing of a scope."""
    return {scope: containers.create(**({"scope": scope} if scope else {})) for scope in SCOPES}


@pytest.mark.parametrize("scope", SCOPES)
def test_only_containers_of_the_scope_are_listed_and_inspected(engines, names, scope):
    assert [one.name for one in engines[scope].instances()] == [names[scope]]
    assert engines[scope].inspect(names[scope]).labels.scope == (scope or None)
    for other in set(SCOPES) - {scope}:
        with pytest.raises(Missing):
            engines[scope].inspect(names[other])


def test_an_empty_label_is_the_empty_scope(engines, containers):
    name = containers.create(scope="")
    assert [one.name for one in engines[""].instances()] == [name]


def test_a_misspelt_label_is_told_to_its_scope_alone(engines, containers):
    name = containers.create(labelled=False, enabled="true", scope="team-a")
    told = {scope: [miss for miss in engines[scope].near_misses() if name in miss] for scope in SCOPES}
    assert [scope for scope in SCOPES if told[scope]] == ["team-a"]


def test_a_neighbour_of_another_scope_is_never_stopped(serve_docker, containers):
    """The neighbour's agent is idle for longer than its timeout, and only the other Dormouse sweeps."""
    neighbour = containers.create(scope="team-b", idle_timeout="1ms", **WORK)
    own = containers.create(scope="team-a", idle_timeout="1ms", **WORK)
    server = serve_docker(DORMOUSE_SCOPE="team-a")
    containers.api.start(neighbour)
    assert dispatch(server, neighbour).status_code == 404
    assert dispatch(server, own).status_code == 200
    wait_for(lambda: not containers.api.inspect_container(own)["State"]["Running"], what="the own one asleep")
    assert containers.api.inspect_container(neighbour)["State"]["Running"]
    assert not Instance.objects.filter(pk=neighbour).exists()
