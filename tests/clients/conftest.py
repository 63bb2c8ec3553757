from pathlib import Path

import pytest

from tests import npm


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Beside the programs of Node.js, which find in it what they import."""
    return npm.installed(Path(__file__).parent)
