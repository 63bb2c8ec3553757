"""What deploy/start.sh, the command of the image, writes to the container's log."""

import os
import subprocess

import pytest

from tests.servers import PROJECT

#: Stands in for Python: it says a password, as `create_admin` does. The first migrate fails.
PYTHON = """#!/bin/sh
echo "$@"
echo "$@" | grep -q create_admin && echo hush
echo "$@" | grep -q migrate && [ ! -e tried ] && touch tried && exit 1
exit 0
"""


@pytest.fixture
def said(tmp_path):
    """What it says, in lines."""
    for name, program in {"python": PYTHON, "sleep": "#!/bin/sh\n"}.items():
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o700)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["sh", str(PROJECT / "deploy" / "start.sh")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    return (done.stdout + done.stderr).splitlines()


def test_it_serves_when_the_database_can_be_migrated(said):
    assert said == [*2 * ["manage.py migrate --verbosity 0"], "-m config.serve --bind 0.0.0.0 --port 8000"]


def test_the_password_of_admin_is_not_in_the_log(said):
    assert "hush" not in said
