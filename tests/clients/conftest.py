import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.following import NODE_PROGRAM, NPM
from tests.conftest import need


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What package-lock.json names, beside the folder that a program of Node.js is to be put into."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(Path(__file__).parent / name, folder)
    command = [str(NODE_PROGRAM), str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    need("node", installed.returncode == 0, f"npm must reach its registry:\n{installed.stderr}")
    return folder / "node_modules"
