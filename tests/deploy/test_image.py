"""Dormouse in a container with the engine's socket: where agents are reached from there, and how it ends."""

import threading
import uuid
from http import HTTPStatus
from typing import Any, cast

import httpx
import pytest

from tests.deploy.image import SOCKET, run, socket_group
from tests.docker.support.containers import PORT, Containers, remove_marks
from tests.docker.support.from_outside import WORK
from tests.servers import DEADLINE_SECONDS, Server, free_port, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow]
LOOPBACK, EVERYWHERE = ("127.0.0.1",), ("0.0.0.0",)


class InContainer:
    """A Dormouse in a container on a network of its own."""

    def __init__(self, containers: Containers) -> None:
        self.containers = containers
        self.network, self.other = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("home", "other"))
        for network in (self.network, self.other):
            run("docker", "network", "create", network)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = ["docker", "run", "--detach", "--network", self.network, "--publish", f"127.0.0.1:{port}:8000"]
        command += ["--volume", f"{SOCKET}:/var/run/docker.sock", "--group-add", str(socket_group())]
        command += ["--env", f"DORMOUSE_API_TOKEN={Server.TOKEN}", "--hostname", "of-my-own", "dormouse"]
        self.id = run(*command).strip()
        wait_for(self._is_healthy, what="the container's health check")

    def add(
        self,
        *,
        network: str,
        published: tuple[str, ...] | None = None,
        environment: dict[str, str] | None = None,
        **labels: str,
    ) -> str:
        host_config = {"network_mode": network, "port_bindings": {PORT: published} if published else {}}
        return self.containers.create(
            host_config=host_config,
            environment=environment,
            exposed=bool(published),
            **cast(Any, WORK | {"port": str(PORT)} | labels),
        )

    def dispatch(self, name: str) -> httpx.Response:
        address = f"{self.url}/api/instances/{name}/dispatch"
        bearer = {"Authorization": f"Bearer {Server.TOKEN}"}
        return httpx.post(address, content="x", headers=bearer, timeout=DEADLINE_SECONDS)

    def _is_healthy(self) -> bool:
        return run("docker", "inspect", "--format", "{{.State.Health.Status}}", self.id).strip() == "healthy"

    def remove(self) -> None:
        print(run("docker", "logs", self.id))  # pytest shows it with a failure
        run("docker", "rm", "--force", "--volumes", self.id)
        self.containers.remove_all()
        run("docker", "network", "rm", self.network, self.other)


@pytest.fixture(scope="module")
def dormouse(image, docker_api):
    remove_marks(docker_api)
    found = InContainer(Containers(docker_api))
    yield found
    found.remove()
    remove_marks(docker_api)


def works(dormouse, name):
    answer = dormouse.dispatch(name)
    assert (answer.status_code, answer.text) == (200, "working on: x\ndone\n"), answer.text
    return True


def test_on_a_network_that_both_share(dormouse):
    assert works(dormouse, dormouse.add(network=dormouse.network))


def test_on_two_networks_of_which_one_is_shared(dormouse, docker_api):
    name = dormouse.add(network=dormouse.other)
    docker_api.connect_container_to_network(name, dormouse.network)
    assert works(dormouse, name)


def test_published_on_all_addresses(dormouse):
    assert works(dormouse, dormouse.add(network=dormouse.other, published=EVERYWHERE))


def test_in_the_network_of_another_container(dormouse, docker_api):
    other = dormouse.containers.create(
        labelled=False, command=["sleep", "1000"], host_config={"network_mode": dormouse.network}
    )
    docker_api.start(other)
    assert works(dormouse, dormouse.add(network=f"container:{other}"))


def test_published_on_loopback_is_refused_with_the_reason_before_anything_starts(dormouse):
    name = dormouse.add(network=dormouse.other, published=LOOPBACK)
    answer = dormouse.dispatch(name)
    assert answer.status_code == 409
    assert f"cannot be reached from Dormouse's own container: it is on {dormouse.other}" in answer.text
    assert f"Dormouse is on {dormouse.network}" in answer.text
    assert dormouse.containers.state(name)["Status"] == "created"


def test_it_is_reached_soon_after_both_got_a_network(dormouse, docker_api):
    name = dormouse.add(network=dormouse.other)
    assert dormouse.dispatch(name).status_code == 409
    docker_api.connect_container_to_network(dormouse.id, dormouse.other)
    try:
        wait_for(lambda: dormouse.dispatch(name).status_code == 200)
    finally:
        docker_api.disconnect_container_from_network(dormouse.id, dormouse.other)
    # Dormouse asks for its own networks every 10 s. Other tests need that it has noticed.
    lost = dormouse.add(network=dormouse.other, start_timeout="1s")
    wait_for(lambda: dormouse.dispatch(lost).status_code == HTTPStatus.CONFLICT, what="the loss of the network")


def test_an_agent_that_does_not_answer_is_told_with_the_place_from_which_it_was_asked(dormouse):
    name = dormouse.add(network=dormouse.network, port="9", start_timeout="1s")
    error = dormouse.dispatch(name).json()["error"]
    assert error.endswith(f"(asked from Dormouse's own container, which is on {dormouse.network})")


def is_at_work(dormouse, name):
    bearer = {"Authorization": f"Bearer {Server.TOKEN}"}
    answer = httpx.get(f"{dormouse.url}/api/instances/{name}", headers=bearer)
    return answer.status_code == 200 and answer.json()["leases"]


def test_work_in_flight_ends_in_order_when_the_container_is_stopped(dormouse, docker_api):
    name = dormouse.add(network=dormouse.network, environment={"HOLD": "1"})
    answers = []
    work = threading.Thread(target=lambda: answers.append(dormouse.dispatch(name)))
    work.start()
    wait_for(lambda: is_at_work(dormouse, name), what="the work")
    stop = threading.Thread(target=run, args=["docker", "stop", "--time", "60", dormouse.id])
    stop.start()
    wait_for(lambda: httpx.get(f"{dormouse.url}/readyz").status_code == 503, what="the end of new work")
    dormouse.containers.touch(name, "/go")
    work.join(DEADLINE_SECONDS)
    stop.join(DEADLINE_SECONDS)
    assert answers[0].text == "working on: x\ndone\n"
    assert docker_api.inspect_container(dormouse.id)["State"]["ExitCode"] == 0
    run("docker", "start", dormouse.id)
    wait_for(dormouse._is_healthy)
