"""The systemd unit is understood, and hardened."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import need
from tests.servers import PROJECT

#: What `systemd-analyze security` says of a unit without any hardening is 9.6.
MAX_EXPOSURE = 2.5


@pytest.fixture
def unit(tmp_path):
    """The unit, with the programs of this machine, because systemd looks whether they exist."""
    return write_unit(tmp_path / "dormouse.service", (PROJECT / "deploy" / "dormouse.service").read_text())


def write_unit(path, text):
    need("systemd", shutil.which("systemd-analyze"), "apt-get install systemd")
    path.write_text(
        text.replace("/opt/dormouse/.venv/bin/python", sys.executable).replace("/opt/dormouse", str(PROJECT))
    )
    return path


def analyze(*arguments):
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_understands_every_line(unit):
    found = analyze("verify", "--man=no", "--recursive-errors=no", unit)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_it_is_exposed_little(unit):
    said = analyze("security", "--offline=yes", "--no-pager", unit).stdout
    assert float(re.search(r"Overall exposure level .*?: ([\d.]+)", said)[1]) <= MAX_EXPOSURE


def test_the_second_unit_of_the_docs_has_another_port_and_does_not_migrate(unit, tmp_path):
    (script,) = re.findall(r"^    sed '(.*)'", (PROJECT / "docs" / "operations.md").read_text(), re.MULTILINE)
    done = subprocess.run(["sed", script, str(unit)], check=True, capture_output=True, text=True)
    second = write_unit(tmp_path / "dormouse-8001.service", done.stdout)
    assert analyze("verify", "--man=no", "--recursive-errors=no", second).returncode == 0
    assert re.findall(r"^(?:After|ExecStart.*?)=(.*)", done.stdout, re.MULTILINE) == [
        "dormouse.service network-online.target docker.service postgresql.service",
        f"{sys.executable} -m config.serve --bind 127.0.0.1 --port 8001",
    ]
