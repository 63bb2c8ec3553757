"""Generated secrets are made once, and are refused if others can open them."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from access.secret_files import UnsafeSecretFile, read_or_create_secret, read_secret
from tests.servers import PROJECT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "secret"


def test_a_new_secret_is_kept(path):
    assert read_or_create_secret(path, lambda: "first") == "first"
    assert read_or_create_secret(path, lambda: "second") == "first"


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_only_its_owner_can_read_a_new_secret_whatever_the_umask(path, umask):
    before = os.umask(umask)
    try:
        read_or_create_secret(path, lambda: "secret")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_no_draft_is_left(path):
    read_or_create_secret(path, lambda: "secret")
    assert list(path.parent.iterdir()) == [path]


def test_a_faster_process_wins(path):
    def slow_to_generate():
        read_or_create_secret(path, lambda: "of the faster process")
        return "of the slower process"

    assert read_or_create_secret(path, slow_to_generate) == "of the faster process"
    assert list(path.parent.iterdir()) == [path]


def test_processes_that_start_at_once_read_one_secret(path):
    program = (
        "import secrets, sys; from pathlib import Path; from access.secret_files import read_or_create_secret;"
        "print(read_or_create_secret(Path(sys.argv[1]), secrets.token_hex))"
    )
    command = [sys.executable, "-c", program, path]
    started = [subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    assert len({process.communicate()[0] for process in started}) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602, 0o666])
def test_a_file_that_others_can_open_is_refused_with_the_command_that_mends_it(path, mode):
    read_or_create_secret(path, lambda: "secret")
    path.chmod(mode)
    with pytest.raises(UnsafeSecretFile, match=f"its mode is {mode:04o}.*chmod 600 {path}"):
        read_secret(path)
    path.chmod(0o600)
    assert read_secret(path) == "secret"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused_with_the_command_that_mends_it(path):
    read_or_create_secret(path, lambda: "secret")
    os.chown(path, 65534, -1)
    with pytest.raises(UnsafeSecretFile, match=f"belongs to user 65534. Make it yours: chown 0 {path}"):
        read_secret(path)


def test_a_link_is_refused_and_not_followed(path):
    read_or_create_secret(path.with_name("elsewhere"), lambda: "secret")
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(UnsafeSecretFile, match="not a regular file"):
        read_or_create_secret(path, lambda: "another")


def test_a_link_to_nowhere_is_refused_and_not_followed(path):
    path.parent.mkdir()
    path.symlink_to(path.with_name("nowhere"))
    with pytest.raises(UnsafeSecretFile, match="not a regular file"):
        read_or_create_secret(path, lambda: "another")
    assert not path.with_name("nowhere").exists()


def test_an_empty_file_is_refused(path):
    path.parent.mkdir()
    path.touch(mode=0o600)
    with pytest.raises(UnsafeSecretFile, match="is empty"):
        read_or_create_secret(path, lambda: "another")
