"""Generated secrets are made once, and are refused if others can open them."""

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from access.files.secret_files import SecretFileError, read_or_create_secret, read_secret
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


@pytest.mark.slow
def test_processes_that_start_at_once_read_one_secret(path):
    program = (
        "import secrets, sys; from pathlib import Path; from access.files.secret_files import read_or_create_secret;"
        "print(read_or_create_secret(Path(sys.argv[1]), secrets.token_hex))"
    )
    command = [sys.executable, "-c", program, path]
    started = [subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    assert len({process.communicate()[0] for process in started}) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602, 0o666])
def test_a_file_that_others_can_open_is_refused_with_the_command_that_mends_it(path, mode):
    read_or_create_secret(path, lambda: "secret")
    path.chmod(mode)
    with pytest.raises(SecretFileError, match=f"its mode is {mode:04o}.*chmod 600 {path}"):
        read_secret(path)
    path.chmod(0o600)
    assert read_secret(path) == "secret"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused_with_the_command_that_mends_it(path):
    read_or_create_secret(path, lambda: "secret")
    os.chown(path, 65534, -1)
    with pytest.raises(SecretFileError, match=f"belongs to user 65534. Make it yours: chown 0 {path}"):
        read_secret(path)


def test_a_link_is_refused_and_not_followed(path):
    read_or_create_secret(path.with_name("elsewhere"), lambda: "secret")
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(SecretFileError, match="not a regular file"):
        read_or_create_secret(path, lambda: "another")


def test_a_link_to_nowhere_is_refused_and_not_followed(path):
    path.parent.mkdir()
    path.symlink_to(path.with_name("nowhere"))
    with pytest.raises(SecretFileError, match="not a regular file"):
        read_or_create_secret(path, lambda: "another")
    assert not path.with_name("nowhere").exists()


def test_an_empty_file_is_refused(path):
    path.parent.mkdir()
    path.touch(mode=0o600)
    with pytest.raises(SecretFileError, match="is empty"):
        read_or_create_secret(path, lambda: "another")


def test_a_fifo_is_refused_and_not_waited_for(path):
    path.parent.mkdir()
    os.mkfifo(path, mode=0o600)
    with pytest.raises(SecretFileError, match="not a regular file"):
        read_or_create_secret(path, lambda: "another")


def test_a_file_that_is_exchanged_for_a_link_while_it_is_read_is_refused(path, monkeypatch):
    read_or_create_secret(path, lambda: "secret")
    other = path.with_name("elsewhere")
    read_or_create_secret(other, lambda: "of another file")
    open_file = os.open

    def exchange_and_open(file, flags, *args, **kwargs):
        path.unlink()
        path.symlink_to(other)
        return open_file(file, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", exchange_and_open)
    with pytest.raises(SecretFileError, match="not a regular file"):
        read_secret(path)


def test_a_file_that_is_no_text_is_refused(path):
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SecretFileError, match=f"cannot be read .*rm {path}"):
        read_secret(path)


def test_a_file_that_its_owner_cannot_read_is_refused_with_the_command_that_mends_it(path):
    read_or_create_secret(path, lambda: "secret")
    path.chmod(0o200)
    with pytest.raises(SecretFileError, match=f"its mode is 0200.*chmod 600 {path}"):
        read_secret(path)


def test_a_folder_that_cannot_be_made_is_an_error_that_names_the_file(path):
    path.parent.touch()
    with pytest.raises(SecretFileError, match=f"{path} cannot be created .*ls -ld {path.parent}"):
        read_or_create_secret(path, lambda: "secret")


def test_a_command_that_mends_can_be_pasted_into_a_shell_whatever_the_path(tmp_path):
    path = tmp_path / "two words; and more" / "secret"
    path.parent.mkdir()
    path.touch(mode=0o600)
    with pytest.raises(SecretFileError) as caught:
        read_secret(path)
    assert shlex.split(str(caught.value).partition("generated: ")[2]) == ["rm", str(path)]


def test_a_new_secret_survives_a_power_failure(path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    read_or_create_secret(path, lambda: "secret")
    assert synced == [path.stat().st_ino, path.parent.stat().st_ino]
