"""The image and `deploy/compose.yaml`, with the commands that the README says."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import httpx
import pytest

from tests.deploy.image import compose_environment, run
from tests.docker.support.containers import remove_marks
from tests.servers import PROJECT, free_port, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow]
COMPOSE = ("docker", "compose", "-f", "deploy/compose.yaml")


@dataclass(frozen=True)
class Installation:
    """What the README's commands have started."""

    run: Callable[..., str]
    url: str
    #: What the commands have printed.
    printed: str

    def compose(self, *command: str) -> str:
        return self.run(*COMPOSE, *command)

    def inside(self, *command: str) -> str:
        """Return what a command prints in Dormouse's container."""
        return self.compose("exec", "-T", "dormouse", *command)

    def is_up(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/healthz").status_code == 200
        return False


@pytest.fixture(scope="module")
def installation(image, docker_api, tmp_path_factory) -> Iterator[Installation]:
    """Run the commands of the README. What they have started is removed at the end."""
    remove_marks(docker_api)
    port = str(free_port())
    environment = compose_environment(tmp_path_factory.mktemp("docker-config")) | {"DORMOUSE_PORT": port}

    def do(*command: str) -> str:
        return run(*command, environment=environment)

    try:
        script = "\n".join(["set -eu", *readme_commands()]).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        yield Installation(do, f"http://127.0.0.1:{port}", do("bash", "-c", script))
    finally:
        print(do(*COMPOSE, "logs", "--no-color"))  # pytest shows it with a failure
        do(*COMPOSE, "down", "--volumes")
        remove_marks(docker_api)


def readme_commands() -> list[str]:
    section = (PROJECT / "README.md").read_text().partition("## In containers")[2].partition("\n## ")[0]
    return re.findall(r"^    (\S.*)$", section, re.MULTILINE)


def test_three_commands_lead_to_an_answer_of_the_sample_agent(installation):
    assert len(readme_commands()) == 3
    assert installation.printed.endswith("done: hello\n")


def test_the_page_is_there_and_its_password_works(installation):
    password = installation.inside("cat", "/var/lib/dormouse/admin-password").strip()
    with httpx.Client(base_url=installation.url) as client:
        page = client.get("/accounts/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
        form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token}
        answer = client.post("/accounts/login/", data=form, headers={"Referer": str(page.url)})
        assert answer.status_code == 302
        assert "sample-default" in client.get("/agents/").text


def test_the_socket_proxy_lets_nothing_else_through(installation):
    asked = [
        ("POST", "/v1.41/containers/create"),
        ("POST", "/v1.23/containers/sample-default/start"),  # it could change the mounts
        ("POST", "/containers/sample-default/start"),
        ("POST", "/v1.41/containers/sample-default/exec"),
        ("DELETE", "/v1.41/containers/sample-default"),
        ("GET", "/v1.41/containers/sample-default/archive?path=/"),
        ("GET", "/v1.41/containers/..%2f..%2fimages/json"),
        ("GET", "/v1.41/images/json"),
        ("POST", "/v1.41/containers/json"),
        ("GET", "//v1.41/images/json"),
        ("POST", "/v1.41/volumes/create"),  # without a body; see the test of its body
        ("DELETE", "/v1.41/volumes/somebodys-data"),
    ]
    script = (
        "import http.client\n"
        f"for method, path in {asked!r}:\n"
        "    connection = http.client.HTTPConnection('socket-proxy', 2375)\n"
        "    connection.request(method, path)\n"
        "    print(connection.getresponse().status)\n"
    )
    assert installation.inside("python", "-c", script).split() == ["403"] * len(asked)


def test_the_socket_proxy_lets_a_mark_through_and_no_other_volume(installation, docker_api):
    """A volume with options could be a folder of the host, which the next container of that name would get."""
    assert docker_api.inspect_volume("dormouse-mark")["Labels"]["dormouse.installation"]
    labels = {"Labels": {"dormouse.installation": "x"}}
    bodies = [
        {"Name": "dormouse-mark", "DriverOpts": {"type": "none", "o": "bind", "device": "/"}, **labels},
        {"Name": "dormouse-mark", **labels, "DriverOpts": {"type": "none", "o": "bind", "device": "/"}},
        {"Name": "somebodys-data", **labels},
        {"Name": "dormouse-mark", "Labels": {"dormouse.installation": 'x"}, "Driver": "y'}},
        {},
    ]
    script = (
        "import http.client\n"
        f"for body in {[json.dumps(body) for body in bodies]!r}:\n"
        "    connection = http.client.HTTPConnection('socket-proxy', 2375)\n"
        "    connection.request('POST', '/v1.41/volumes/create', body, {'Content-Type': 'application/json'})\n"
        "    print(connection.getresponse().status)\n"
    )
    assert installation.inside("python", "-c", script).split() == ["403"] * len(bodies)


def test_it_is_not_root_and_holds_no_secret_of_the_clone(installation):
    assert installation.inside("id", "-u").strip() == "10001"
    assert not {"var", ".git", "tests"} & set(installation.inside("ls", "-A", "/opt/dormouse").split())
    assert installation.inside("ls", "-ld", "/var/lib/dormouse").startswith("drwx------")


def test_what_it_keeps_outlives_its_container(installation):
    installation.compose("up", "-d", "--force-recreate", "dormouse")
    wait_for(installation.is_up, what="the new container")
    assert "me" in installation.inside("python", "manage.py", "list_tokens").split()
