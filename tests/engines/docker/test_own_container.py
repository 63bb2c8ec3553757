"""What Dormouse finds out about the container in which it runs, and what cannot be reached from there."""

from pathlib import Path

import pytest

from lifecycle.engines.docker import addresses
from lifecycle.engines.docker.addresses import Viewpoint, candidates, own_id, why_unreachable

ID = "0123456789abcdef" * 4
DOCKER = f"655 640 254:0 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw\n"
PODMAN = f"99 90 0:25 /containers/overlay-containers/{ID}/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw\n"
IN_HOME = Viewpoint(own_networks={"home": "172.18.0.1", "inner": ""})


@pytest.fixture
def in_container(monkeypatch):
    monkeypatch.setattr(addresses, "CONTAINER_MARKS", (Path("/"),))


def container(networks=("other",), mode="other", bindings=None, ports=None, publish_all=False):
    return {
        "HostConfig": {"NetworkMode": mode, "PortBindings": bindings, "PublishAllPorts": publish_all},
        "NetworkSettings": {"Networks": {name: {"IPAddress": "10.0.0.9"} for name in networks}, "Ports": ports},
    }


def published(address):
    return {"8080/tcp": [{"HostIp": address, "HostPort": "32768"}]}


@pytest.mark.parametrize("mount", [DOCKER, PODMAN], ids=["Docker", "Podman"])
def test_its_id_is_that_of_the_engines_mount_whatever_its_host_name_is(in_container, tmp_path, mount):
    (tmp_path / "mountinfo").write_text(f"1 2 0:1 / / rw - overlay overlay rw\n{mount}")
    assert own_id({"HOSTNAME": "of-my-own"}, tmp_path / "mountinfo") == ID


@pytest.mark.parametrize("mounts", ["", "1 2 0:1 /etc/hostname /etc/hostname rw - ext4 /dev/vda rw\n"])
def test_without_that_mount_its_host_name_is_used(in_container, tmp_path, mounts):
    (tmp_path / "mountinfo").write_text(mounts)
    assert own_id({"HOSTNAME": "0123456789ab"}, tmp_path / "mountinfo") == "0123456789ab"


def test_outside_of_a_container_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(addresses, "CONTAINER_MARKS", (tmp_path / "none",))
    assert own_id({"HOSTNAME": "0123456789ab"}) is None


@pytest.mark.parametrize("address", ["", "0.0.0.0", "192.0.2.7"])
def test_a_port_published_beyond_loopback_is_asked_at_the_gateways(address):
    found = candidates(container(ports=published(address)), 8080, IN_HOME, None)
    assert found == (("172.18.0.1", 32768),)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_published_on_loopback_is_never_asked_there(address):
    seen = container(ports=published(address), bindings=published(address))
    assert candidates(seen, 8080, IN_HOME, None) == ()
    assert "it is on other, Dormouse is on home, inner" in why_unreachable(seen, 8080, IN_HOME)


@pytest.mark.parametrize("viewpoint", [IN_HOME, Viewpoint()], ids=["in a container", "on the machine"])
@pytest.mark.parametrize("bindings", [None, published("")])
def test_one_on_no_network_cannot_be_reached_from_anywhere(viewpoint, bindings):
    seen = container(networks=[], mode="bridge", bindings=bindings)
    assert "the container is on no network" in why_unreachable(seen, 8080, viewpoint)


@pytest.mark.parametrize(
    ("seen", "viewpoint"),
    [
        (container(networks=["other", "home"]), IN_HOME),
        (container(bindings=published("")), IN_HOME),
        (container(publish_all=True), IN_HOME),
        (container(), Viewpoint()),
        (container(), Viewpoint(is_in_container=True)),
        (container(networks=[], mode="host"), Viewpoint()),
        (container(networks=[], mode="slirp4netns", ports=published("")), Viewpoint()),
    ],
    ids=[
        "shared network",
        "published",
        "publishes all",
        "on the machine",
        "in a container of another engine",
        "the machine's network",
        "rootless Podman",
    ],
)
def test_nothing_else_is_refused(seen, viewpoint):
    assert why_unreachable(seen, 8080, viewpoint) is None


def test_where_it_asks_from_is_said_in_containers_alone():
    assert str(Viewpoint()) == ""
    assert str(IN_HOME) == "from Dormouse's own container, which is on home, inner"
    assert str(Viewpoint(is_in_container=True)) == "from a container that this engine does not have"
