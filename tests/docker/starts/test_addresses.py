"""The address at which an agent is reached: from the connection that is really used, and from its networks."""

import hashlib
import json
import os
import socket
import uuid
from dataclasses import replace

import pytest

from lifecycle.engines.base import Phase
from lifecycle.engines.docker.engine import DockerEngine
from lifecycle.exceptions import LabelError
from lifecycle.models import Instance
from lifecycle.state_machine import State
from tests.docker.support.containers import PORT
from tests.docker.support.engine import HOST
from tests.docker.support.faulty_proxy import FaultyProxy
from tests.docker.support.from_outside import types
from tests.servers import free_port


@pytest.fixture
def networks(docker_api):
    """Return a function that makes a network whose name begins with `prefix`."""
    made = []

    def make(prefix="net"):
        made.append(f"{prefix}-{uuid.uuid4().hex[:8]}")
        docker_api.create_network(made[-1])
        return made[-1]

    yield make
    for name in made:
        for id in docker_api.inspect_network(name)["Containers"]:
            docker_api.disconnect_container_from_network(id, name, force=True)
        docker_api.remove_network(name)


@pytest.fixture
def engine_at(tmp_path, docker_api):
    """Return a function that makes an engine which is reached at an address of this machine."""
    made = []

    def make(address, **environment):
        proxy = FaultyProxy(address)
        engine = DockerEngine(environment | {"DOCKER_HOST": proxy.host})
        made.append((proxy, engine))
        return engine

    yield make
    for proxy, engine in made:
        for client in engine._clients.values():
            client.close()
        proxy.close()


def address_of(name):
    return tuple(Instance.objects.get(pk=name).address or ())


def own_ip(api, name, network):
    return api.inspect_container(name)["NetworkSettings"]["Networks"][network]["IPAddress"]


def two_networks(containers, networks, **keys):
    """A container on two networks, of which the first by name cannot be reached from here."""
    lost, good = networks("a-lost"), networks("b-good")
    host_config = {"network_mode": good}
    name = containers.create(host_config=host_config, exposed=False, port="8080", **keys)
    containers.api.connect_container_to_network(name, lost)
    return name, lost, good


def test_the_network_that_answers_is_found_and_remembered(lifecycle, containers, networks, monkeypatch):
    name, lost, good = two_networks(containers, networks)
    containers.api.start(name)
    silent = socket.create_server(("127.0.0.1", 0))  # accepts a connection, and never answers
    real = lifecycle.engine.inspect

    def inspect(name):
        seen = real(name)
        bad = own_ip(containers.api, name, lost)
        return replace(seen, addresses=tuple(silent.getsockname() if one[0] == bad else one for one in seen.addresses))

    monkeypatch.setattr(lifecycle.engine, "inspect", inspect)
    lifecycle.waking.wake(name)
    answered = (own_ip(containers.api, name, good), PORT)
    assert (Instance.objects.get(pk=name).state, address_of(name)) == (State.READY, answered)
    leased = lifecycle.leases.take(name)
    assert leased.seen.address == answered
    lifecycle.leases.give_back(leased.lease)
    silent.close()


def test_every_network_is_a_candidate_without_a_label(lifecycle, containers, networks):
    name, lost, good = two_networks(containers, networks)
    lifecycle.engine.start(name)
    api = containers.api
    assert set(lifecycle.engine.inspect(name).addresses) == {
        (own_ip(api, name, lost), PORT),
        (own_ip(api, name, good), PORT),
    }


def test_the_label_names_the_one_network(lifecycle, containers, networks):
    good = networks("b-good")
    name = containers.create(host_config={"network_mode": good}, network=good)
    lifecycle.engine.start(name)
    assert lifecycle.engine.inspect(name).addresses == ((own_ip(containers.api, name, good), PORT),)


def test_the_setting_names_the_network_of_those_that_are_on_it_and_have_no_label(containers, networks):
    both, lost, good = two_networks(containers, networks)
    labelled = containers.create(host_config={"network_mode": good}, network=good)
    containers.api.connect_container_to_network(labelled, lost)
    elsewhere = containers.create()
    engine = DockerEngine(os.environ | {"DOCKER_HOST": HOST}, network=lost)
    found = {}
    for name in (both, labelled, elsewhere):
        engine.start(name)
        found[name] = [host for host, _ in engine.inspect(name).addresses]
    api = containers.api
    assert found == {
        both: [own_ip(api, both, lost)],
        labelled: [own_ip(api, labelled, good)],
        elsewhere: ["127.0.0.1"],
    }


def test_a_label_that_names_another_network_is_said_before_anything_is_started(lifecycle, containers):
    name = containers.create(network="backend")
    with pytest.raises(LabelError, match=r"dormouse\.network='backend' is no network of the container: it is on"):
        lifecycle.waking.wake(name)
    assert lifecycle.engine.inspect(name).phase is Phase.CREATED


def test_one_without_any_network_is_said_before_anything_is_started(lifecycle, containers):
    name = containers.create(host_config={"network_mode": "none", "port_bindings": None}, ready="running")
    with pytest.raises(
        LabelError, match=r"dormouse\.port='8080' cannot be reached, because the container has no network"
    ):
        lifecycle.waking.wake(name)
    assert types(name) == []
    assert lifecycle.engine.inspect(name).phase is Phase.CREATED


@pytest.mark.parametrize("ready", ["running", "http"])
def test_one_that_was_taken_off_its_network_is_said_before_anything_is_started(lifecycle, containers, ready):
    name = containers.create(ready=ready)
    containers.api.disconnect_container_from_network(name, "bridge")
    with pytest.raises(LabelError, match="cannot be reached, because the container is on no network"):
        lifecycle.waking.wake(name)
    assert types(name) == []
    assert lifecycle.engine.inspect(name).phase is Phase.CREATED


@pytest.mark.parametrize("ready", ["running", "health"])
def test_one_without_a_port_is_said_before_anything_is_started(lifecycle, containers, ready):
    check = {"test": ["CMD", "cat", "/agent"], "interval": 10**9}
    name = containers.create(exposed=False, ready=ready, healthcheck=check)
    with pytest.raises(LabelError, match=r"dormouse\.port='' is not set") as raised:
        lifecycle.waking.wake(name)
    assert raised.value.status == 409
    assert types(name) == []
    assert lifecycle.engine.inspect(name).phase is Phase.CREATED


def test_one_that_shares_another_ones_network_is_reached_there(lifecycle, containers):
    vpn = containers.create(command=["sleep", "600"])
    containers.api.start(vpn)
    published = containers.api.inspect_container(vpn)["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"]
    name = containers.create(host_config={"network_mode": f"container:{vpn}"}, exposed=False, port="8080")
    lifecycle.waking.wake(name)
    assert address_of(name) == ("127.0.0.1", int(published))


@pytest.mark.parametrize("published", ["127.0.0.2", "0.0.0.0"])
def test_an_engine_at_another_address_is_where_its_ports_are(engine_at, containers, published):
    port = free_port()
    name = containers.create(host_config={"port_bindings": {PORT: (published, port)}})
    engine = engine_at("127.0.0.2")
    engine.start(name)
    assert engine.inspect(name).addresses == (("127.0.0.2", port),)


def test_the_loopback_of_an_engine_elsewhere_is_not_ours(engine_at, containers):
    name = containers.create(host_port=free_port())
    engine = engine_at("127.0.0.2")
    engine.start(name)
    assert [host for host, _ in engine.inspect(name).addresses] == ["127.0.0.2"]


def test_a_docker_context_is_the_connection_that_is_used(containers, tmp_path, monkeypatch):
    """No DOCKER_HOST: the connection is the one that `docker context use` chose."""
    proxy = FaultyProxy("127.0.0.2")
    id = hashlib.sha256(b"elsewhere").hexdigest()
    meta = tmp_path / "contexts" / "meta" / id
    meta.mkdir(parents=True)
    endpoints = {"docker": {"Host": proxy.host, "SkipTLSVerify": False}}
    (meta / "meta.json").write_text(json.dumps({"Name": "elsewhere", "Metadata": {}, "Endpoints": endpoints}))
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "elsewhere"}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for variable in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(variable, raising=False)
    port = free_port()
    name = containers.create(host_config={"port_bindings": {PORT: ("0.0.0.0", port)}})
    engine = DockerEngine(os.environ)
    engine.start(name)
    assert engine.inspect(name).addresses == (("127.0.0.2", port),)
    for client in engine._clients.values():
        client.close()
    proxy.close()


def test_a_dormouse_in_a_container_uses_a_network_that_both_share(containers, networks, docker_api):
    shared, other = networks("shared"), networks("other")
    own = containers.create(host_config={"network_mode": shared}, labelled=False)
    docker_api.start(own)
    name = containers.create(host_config={"network_mode": other})
    docker_api.connect_container_to_network(name, shared)
    engine = DockerEngine({"DOCKER_HOST": HOST}, own_id=own)
    engine.start(name)
    addresses = engine.inspect(name).addresses
    assert addresses[0] == (own_ip(docker_api, name, shared), PORT)
    assert "127.0.0.1" not in [host for host, _ in addresses]
    for client in engine._clients.values():
        client.close()


def test_an_address_that_is_lost_while_it_is_ready_is_probed_again(lifecycle, containers, networks):
    first, second = networks("a"), networks("b")
    name = containers.create(host_config={"network_mode": first}, exposed=False, port="8080")
    lifecycle.waking.wake(name)
    api = containers.api
    before = address_of(name)
    api.connect_container_to_network(name, second)
    api.disconnect_container_from_network(name, first)
    assert lifecycle.leases.take(name) is None
    lifecycle.waking.wake(name)
    after = address_of(name)
    assert before != after == (own_ip(api, name, second), PORT)


@pytest.mark.parametrize("is_published", [True, False])
def test_one_that_is_taken_off_its_only_network_while_it_is_ready_says_so(lifecycle, containers, is_published):
    name = containers.create(exposed=is_published, port="8080")
    lifecycle.waking.wake(name)
    containers.api.disconnect_container_from_network(name, "bridge")
    for use in (lifecycle.leases.take, lifecycle.waking.wake):
        with pytest.raises(LabelError, match="cannot be reached, because the container is on no network"):
            use(name)
    assert types(name) == ["lazy_started"]
    containers.api.connect_container_to_network(name, "bridge")
    lifecycle.waking.wake(name)
    assert Instance.objects.get(pk=name).state == State.READY
