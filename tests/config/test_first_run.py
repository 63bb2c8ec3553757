"""What a newcomer is told: a taken port first, the address when it is true, and whether programs can get in."""

import os
import socket
import subprocess
import sys

import pytest

from access.models import Token
from tests.servers import PROJECT, database_url, wait_for


@pytest.mark.parametrize("target", ["run", "demo"])
def test_a_taken_port_is_said_before_anything_else(target):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = ["make", "--no-print-directory", target, f"PORT={port}"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        ended = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode
    assert ended.stderr.startswith(f"Port {port} of 127.0.0.1 cannot be used (Address already in use).")
    assert ended.stdout == ""


def test_nothing_is_said_of_a_free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = ["make", "--no-print-directory", "free-port", f"PORT={port}"]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("port", ["x", "0", "65536", "-1"])
def test_a_text_that_is_no_port_is_said(port):
    ended = subprocess.run(
        ["make", "free-port", f"PORT={port}"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert f"PORT={port} is no port" in ended.stderr


def test_the_address_is_named_when_it_is_listened_on(serve):
    server = serve(DORMOUSE_BASE_PATH="/dormouse")
    assert f"The Agents page is on {server.url}/dormouse/agents/" in server.log.read_text()


@pytest.mark.server
@pytest.mark.parametrize("program", ["daphne", "uvicorn"])
def test_the_address_is_not_named_if_it_cannot_be_listened_on(transactional_db, program):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "config.serve", "--port", str(taken.getsockname()[1])]
        settings = {"DATABASE_URL": database_url(), "DORMOUSE_SERVER": program, "DORMOUSE_SUPERVISOR": "external"}
        ended = subprocess.run(
            command, cwd=PROJECT, env=os.environ | settings, capture_output=True, text=True, check=False
        )
    assert ended.returncode
    said = ended.stdout + ended.stderr
    assert "ddress already in use" in said
    assert "The Agents page is on" not in said


def test_no_token_is_said_and_how_to_make_one(serve):
    server = serve(DORMOUSE_API_TOKEN="")
    wait_for(
        lambda: (
            "Programs cannot get in, because there is no token. Make one: manage.py create_token"
            in server.log.read_text()
        )
    )


def test_valid_tokens_are_counted(serve):
    for name in ("a", "b", "c"):
        Token.objects.issue(name, "viewer")
    Token.objects.filter(name="c").delete()
    server = serve()
    wait_for(lambda: "Programs get in with their tokens (3)." in server.log.read_text())


def test_without_a_migrated_database_nothing_is_said_of_tokens(serve, tmp_path):
    server = serve(DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3")
    assert "Traceback" not in server.log.read_text()
