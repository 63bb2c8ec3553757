"""What deploy/start.sh, the command of the image, writes to the container's log."""

import os
import subprocess

from tests.servers import PROJECT

#: Stands in for Python: it says a password, as `create_admin` does.
PYTHON = """#!/bin/sh
echo "$@"
echo "$@" | grep -q create_admin && echo hush
exit 0
"""


def test_the_password_of_admin_is_not_in_the_log(tmp_path):
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o700)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["sh", str(PROJECT / "deploy" / "start.sh")]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert "hush" not in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "-m config.serve --bind 0.0.0.0 --port 8000"
