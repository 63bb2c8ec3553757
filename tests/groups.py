"""Which tests run in the same process of `make test`, one after the other.

pytest-xdist 3.8 has groups of its own (`--dist loadgroup`), but with pytest 9.2 it gives each test to any process.
"""

import re

import pytest
from xdist.scheduler import LoadScopeScheduling

ENGINES = "docker, podman and chromium"
#: The groups that take longest. They are begun first.
FIRST = [ENGINES, "swarm", "tests/postgres/test_suite.py", "tests/test_soak.py"]
#: Chromium's tests are with Docker's, because it breaks requests off if a container changes the machine's networks.
PLACES = ("tests/docker/", "tests/deploy/", "tests/engines/docker/", "tests/browser/")
#: The name of an engine in the parameters of a test that runs once with each engine.
ENGINE = re.compile(r"\[(docker|podman|swarm)\b")
#: By fixture: the group of the tests that use it.
FIXTURES = {
    "docker_api": ENGINES,
    "podman_api": ENGINES,
    "own_engine": ENGINES,
    "chromium": ENGINES,
    "swarm_api": "swarm",
}


def group_of(id: str) -> str:
    """Return the group of a test. Tests that use one engine are one; so are those of a file, which share fixtures."""
    file = id.partition("::")[0]
    engine = ENGINE.search(id) if file.startswith("tests/engines/") else None
    if file.startswith("tests/swarm/") or (engine and engine[1] == "swarm"):
        return "swarm"
    return ENGINES if engine or file.startswith(PLACES) else file


def check_group(item: pytest.Item) -> None:
    """Raise UsageError if a test uses an engine, but another process may use it at the same time."""
    for fixture in getattr(item, "fixturenames", ()):
        if fixture in FIXTURES and group_of(item.nodeid) != FIXTURES[fixture]:
            raise pytest.UsageError(f"{item.nodeid} uses {fixture}: put it where tests/groups.py looks for such tests")


def place_of(item: pytest.Item) -> tuple[int, bool]:
    """Return what tests are sorted by: the longest groups first, and in the one that has Chromium, Chromium last."""
    group = group_of(item.nodeid)
    return FIRST.index(group) if group in FIRST else len(FIRST), "tests/browser/" in item.nodeid


class ByGroup(LoadScopeScheduling):
    """Gives each group of tests to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
