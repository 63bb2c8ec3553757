"""The short form of `make soak` runs, and shows no traceback and no refusal."""

import subprocess
import sys

import pytest

from tests.servers import PROJECT

SHORT = ["--strangers=10", "--megabytes=4", "--held=100", "--seconds=3", "--rounds=1", "--minutes=0.1"]


@pytest.mark.server
@pytest.mark.slow
def test_strangers_and_hostile_agents_cause_no_traceback_and_no_refusal():
    command = [sys.executable, "-m", "benchmarks.soak", *SHORT]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "descriptors" in ended.stdout
    assert "refused: 0" in ended.stdout
