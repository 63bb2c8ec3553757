from pathlib import Path

import pytest

from tests import npm


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Install npm's packages beside the programs of Node.js that import them."""
    return npm.installed(Path(__file__).parent)
