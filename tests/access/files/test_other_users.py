"""Another user of the machine reads nothing of `make run` and `make demo`, whatever the umask."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from tests.servers import PROJECT, free_port, wait_for

LONG = bool(os.environ.get("DORMOUSE_LONG"))
#: "nobody" on Debian, who has no rights of its own.
OTHER_USER = 65534
pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which needs root"),
]


@pytest.fixture
def folder():
    """Provide a folder that every user may open. pytest's own are for their owner alone."""
    with tempfile.TemporaryDirectory(prefix="dormouse-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@contextlib.contextmanager
def running(environment, umask, *command):
    """Run a command from its start to SIGTERM."""
    process = subprocess.Popen([sys.executable, *command], cwd=PROJECT, env=environment, umask=umask)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@contextlib.contextmanager
def run(environment, umask, port):
    """Do what `make run` does."""
    for command in ("migrate", "create_admin"):
        subprocess.run([sys.executable, "manage.py", command], cwd=PROJECT, env=environment, umask=umask, check=True)
    with running(environment, umask, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "config.asgi:application"):
        yield


def demo(environment, umask, port):
    """Do what `make demo` does."""
    return running(environment, umask, "manage.py", "demo", "--port", str(port))


def is_up(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").is_success
    except httpx.TransportError:
        return False


def read_as_other_user(path):
    """Return what another user sees of the file or the folder."""
    command = ["ls", str(path)] if path.is_dir() else ["cat", str(path)]
    asked = subprocess.run(command, capture_output=True, user=OTHER_USER, group=OTHER_USER, extra_groups=[])
    return asked.stdout


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022] if LONG else [0o000], ids=oct)
@pytest.mark.parametrize(("start", "made"), [(run, "db.sqlite3"), (demo, "demo/run/reviewer-default.log")])
def test_another_user_reads_nothing(folder, umask, start, made):
    (folder / "public").write_text("seen by all")
    (folder / "public").chmod(0o644)
    assert read_as_other_user(folder / "public") == b"seen by all"  # so the folder itself hides nothing
    var, port = folder / "var", free_port()
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment |= {"DORMOUSE_VAR_DIR": str(var), "DJANGO_SETTINGS_MODULE": "config.settings"}
    with start(environment, umask, port):
        wait_for(lambda: is_up(port), what="the web process")
        wait_for(lambda: (var / made).exists(), what=made)
        assert [path for path in [var, *var.rglob("*")] if read_as_other_user(path)] == []
