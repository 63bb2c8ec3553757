"""Packages of npm that tests use, as a folder's lock file pins them."""

import shutil
import subprocess
from pathlib import Path

from tests.conftest import need


def installed(folder: Path) -> Path:
    """`node_modules` beside the `package-lock.json` in `folder`; installs it where it is missing or another."""
    npm = shutil.which("npm")
    need("node", npm, "apt-get install npm")
    modules = folder / "node_modules"
    mark = modules / ".installed"
    lock = (folder / "package-lock.json").read_text()
    if not mark.exists() or mark.read_text() != lock:
        command = [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
        mark.write_text(lock)
    return modules
