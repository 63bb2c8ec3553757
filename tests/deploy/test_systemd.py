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
    need("systemd", shutil.which("systemd-analyze"), "apt-get install systemd")
    text = (PROJECT / "deploy" / "dormouse.service").read_text()
    path = tmp_path / "dormouse.service"
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
