"""The image of Dormouse for the tests, on a base that debootstrap makes, because they have no registry of images."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

from docker import APIClient

from tests.conftest import need
from tests.docker.support.engine import HOST
from tests.servers import PROJECT

BASE = "dormouse-test-base"
#: HAProxy, because the socket proxy of compose.yaml is started from the same base.
PACKAGES = "python3,python3-venv,ca-certificates,haproxy"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
SOCKET = HOST.removeprefix("unix://")


def make_base(api: APIClient, folder: Path) -> None:
    """Make the base image, unless the engine has it from an earlier run."""
    if api.images(BASE):
        return
    is_possible = shutil.which("debootstrap") and os.geteuid() == 0
    need("image", is_possible, "apt-get install debootstrap, and run the tests as root")
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(folder))
    configure_pip(folder)
    archive = subprocess.Popen(
        ["tar", "--create", "--exclude=./var/cache/apt/*", "."], cwd=folder, stdout=subprocess.PIPE
    )
    run("docker", "import", "-", BASE, stdin=archive.stdout)
    archive.communicate()
    shutil.rmtree(folder)


#: Does at its first start what the image `postgres` of Docker Hub does. That one cannot be pulled here.
START_POSTGRES = """#!/bin/sh
set -e
bin=$(echo /usr/lib/postgresql/*/bin)
data=/var/lib/postgresql/data
as_postgres="setpriv --reuid postgres --regid postgres --clear-groups"
chown postgres "$data"
if [ ! -e "$data/PG_VERSION" ]; then
    printenv POSTGRES_PASSWORD > /tmp/password
    chown postgres /tmp/password
    $as_postgres "$bin/initdb" -D "$data" -U "$POSTGRES_USER" -A trust --pwfile /tmp/password
    echo "CREATE DATABASE $POSTGRES_USER" | $as_postgres "$bin/postgres" --single -D "$data" postgres
    echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
fi
exec $as_postgres "$bin/postgres" -D "$data" -c listen_addresses='*'
"""
POSTGRES_DOCKERFILE = f"""
FROM {BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql > /dev/null
COPY start.sh /start.sh
CMD ["sh", "/start.sh"]
"""


def build_postgres(folder: Path) -> str:
    """Return the name of an image of PostgreSQL, made of Debian's package on the base of the tests."""
    (folder / "start.sh").write_text(START_POSTGRES)
    (folder / "Dockerfile").write_text(POSTGRES_DOCKERFILE)
    run("docker", "build", "--network", "host", "--tag", "dormouse-test-postgres", str(folder))
    return "dormouse-test-postgres"


def configure_pip(folder: Path) -> None:
    """Give the base this machine's configuration of pip, and the certificates that it trusts."""
    listed = run(sys.executable, "-m", "pip", "config", "list").splitlines()
    settings = {}
    for line in listed:
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = value.strip("'")
    settings.pop("find-links", None)  # a folder of this machine
    if "cert" in settings:
        shutil.copy(settings["cert"], folder / CERTIFICATES)
        settings["cert"] = f"/{CERTIFICATES}"
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (folder / "etc" / "pip.conf").write_text(f"[global]\n{lines}")


def build_image() -> None:
    """Build the image as README.md says. With the network of the host, where pip finds what it needs."""
    run("make", "image", f"BASE={BASE}", "ARGS=--network host")


def run(*command: str, stdin: IO[bytes] | None = None, environment: dict[str, str] | None = None) -> str:
    """Return what a command prints. It asks the engine of the tests. Fail with its output if it fails."""
    ended = subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | {"DOCKER_HOST": HOST} | (environment or {}),
        stdin=stdin or subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{command}: {ended.stdout}\n{ended.stderr}"
    return ended.stdout


def socket_group() -> int:
    """Return the group that may open the engine's socket."""
    return Path(SOCKET).stat().st_gid


#: Debian has Compose as a program of its own. This makes it the plugin of `docker` for which the README is written.
PLUGIN = """#!/bin/sh
if [ "$1" = docker-cli-plugin-metadata ]; then
    echo '{"SchemaVersion": "0.1.0", "Vendor": "Debian", "Version": "1"}'
    exit
fi
shift
exec docker-compose "$@"
"""


def compose_environment(folder: Path) -> dict[str, str]:
    """Return what `docker compose` needs beside the README's commands on this machine."""
    found = {"BASE": BASE, "HAPROXY_IMAGE": BASE, "DOCKER_SOCKET": SOCKET}
    has_plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    if not has_plugin:
        need("compose", shutil.which("docker-compose"), "apt-get install docker-compose")
        plugin = folder / "cli-plugins" / "docker-compose"
        plugin.parent.mkdir()
        plugin.write_text(PLUGIN)
        plugin.chmod(0o755)
        found["DOCKER_CONFIG"] = str(folder)
    return found
