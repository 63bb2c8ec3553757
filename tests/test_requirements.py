"""Dependencies are pinned with hashes, and a package that does not match its hash is refused."""

import re
import subprocess
import sys

import pytest

from tests.conftest import need
from tests.servers import PROJECT
from tools.requirements import COMPILED, find_disagreements

pytestmark = pytest.mark.slow


def download(folder, requirement):
    """Ask pip for one package, as `make` does. Return its exit code and what it wrote."""
    file = folder / "requirements.txt"
    file.write_text(requirement)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--require-hashes", "-r", file]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_a_dependency_with_a_wrong_hash_is_refused(tmp_path):
    compiled = (PROJECT / "requirements.txt").read_text()
    (asgiref,) = [found[0] for found in COMPILED.finditer(compiled) if found[1] == "asgiref"]
    code, wrote = download(tmp_path, asgiref)
    need("packages", code == 0, f"pip must reach a package index: {wrote[-200:]}")
    code, wrote = download(tmp_path, re.sub("sha256:[0-9a-f]{8}", "sha256:00000000", asgiref))
    assert code != 0
    assert "DO NOT MATCH THE HASHES" in wrote


def test_the_compiled_files_agree_with_what_was_asked_for():
    assert find_disagreements() == []


def test_a_compiled_file_without_a_package_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.requirements.PROJECT", tmp_path)
    for name in ("requirements", "requirements-dev", "requirements-bench", "requirements-otel"):
        (tmp_path / f"{name}.in").write_text("django==5.2.19\n")
        (tmp_path / f"{name}.txt").write_text("django==5.2.18 \\\n    --hash=sha256:00\n")
    expected = "requirements.txt has not django==5.2.19 of requirements.in: run make requirements"
    assert find_disagreements()[0] == expected
