"""`deploy/compose.yaml` with PostgreSQL and a supervisor of its own. DORMOUSE_LONG=1: its image takes a minute."""

import os
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.deploy.image import build_postgres, compose_environment, run
from tests.docker.support.containers import remove_marks
from tests.servers import free_port, wait_for

LONG = bool(os.environ.get("DORMOUSE_LONG"))
pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.skipif(not LONG, reason="builds an image of PostgreSQL: DORMOUSE_LONG=1"),
]


@pytest.fixture
def compose(image, docker_api, tmp_path) -> Iterator[Callable[..., str]]:
    """Run `docker compose` with an installation that has a password in the file of its settings."""
    remove_marks(docker_api)
    environment = compose_environment(tmp_path) | {"DORMOUSE_PORT": str(free_port())}
    (tmp_path / "postgres").mkdir()
    environment["POSTGRES_IMAGE"] = build_postgres(tmp_path / "postgres")
    settings = tmp_path / "dormouse.env"
    run("cp", "deploy/postgres.env", str(settings))
    settings.write_text("POSTGRES_PASSWORD=abc123\n" + settings.read_text())

    def do(*command: str) -> str:
        compose = ("docker", "compose", "-f", "deploy/compose.yaml", "--env-file", str(settings))
        return run(*compose, *command, environment=environment)

    try:
        do("up", "-d")
        yield do
    finally:
        print(do("logs", "--no-color"))  # pytest shows it with a failure
        do("down", "--volumes")
        remove_marks(docker_api)


def test_the_supervisor_puts_to_sleep_what_a_web_process_woke(compose):
    token = compose(
        "exec", "-T", "dormouse", "python", "manage.py", "create_token", "me", "--role", "dispatcher"
    ).strip()
    url = "http://" + compose("port", "dormouse", "8000").strip()
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        assert client.post("/api/instances/sample-default/dispatch", content="hello").text == "done: hello\n"
        stopped = "/api/events?after=0&type=container.lazy_stopped"
        wait_for(lambda: client.get(stopped).json()["events"], 120, what="its sleep")
    assert "sample-default stopped" in compose("logs", "--no-color", "supervisor")
    assert "sample-default stopped" not in compose("logs", "--no-color", "dormouse")
    dump = ("pg_dump", "--username", "dormouse", "--format", "plain", "dormouse")
    assert "container.lazy_stopped" in compose("exec", "-T", "postgres", *dump)
