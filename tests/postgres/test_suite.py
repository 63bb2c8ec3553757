"""The suite's tests with PostgreSQL instead of SQLite, in processes of their own, because each has one database."""

import os
import subprocess
import sys

import pytest

from tests.servers import PROJECT

PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--ds=tests.settings"]
WITHOUT = ["-m", "not docker and not browser and not node"]
#: These do not depend on the database.
ELSEWHERE = [
    "--ignore=tests/events/stream/test_stream_stalled.py",
    "--ignore=tests/events/stream/test_stream_requests.py",
]
#: The order, the cursor and the claims.
SUBSCRIPTIONS = [
    f"tests/telling/subscriptions/test_{name}.py" for name in ("turns", "deliveries", "commands", "backlog")
]
#: Threads of these tests end without closing their connection. SQLite gives no warning for that.
QUIETLY = ["-W", "ignore:Exception ignored in", "-W", "ignore:Error when trying to teardown test databases"]


@pytest.mark.timeout(0)  # it holds a whole run of the suite, whose tests have the limit
def test_the_suite_passes_on_postgresql(cluster):
    runs = [
        begin(cluster.url("dormouse_events"), "tests/events", *SUBSCRIPTIONS, *ELSEWHERE),
        begin(cluster.url("dormouse_lifecycle"), "tests/lifecycle", "tests/agents_ui", "tests/access", *QUIETLY),
    ]
    outputs = [run.communicate()[0] for run in runs]
    for run, output in zip(runs, outputs, strict=True):
        assert run.returncode == 0, output[-20_000:]


def begin(url, *arguments):
    environment = os.environ | {"DORMOUSE_TEST_DATABASE_URL": url}
    environment.pop("PYTHONDEVMODE", None)  # the same of the processes that tests start
    return subprocess.Popen(
        [*PYTEST, *WITHOUT, *arguments],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
