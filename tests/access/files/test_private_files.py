"""Everything in var/ is for its owner alone, whatever the umask and whichever command is first."""

import os
import stat
import subprocess
import sys

import pytest

from access.files.private_files import make_private_folder
from access.files.secret_files import SecretFileError, read_or_create_secret, read_secret
from tests.servers import PROJECT, wait_for

#: Starts a process agent whose database, run files and output are in a folder of its own.
PROGRAM = """
import django; django.setup()
from django.core.management import call_command
from lifecycle.engines import engine_from_settings
call_command("migrate", verbosity=0)
call_command("create_admin")
engine_from_settings().start("writer")
"""


def modes(folder):
    return {path.relative_to(folder).as_posix(): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "var"


@pytest.mark.server
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_nothing_that_a_command_makes_can_be_opened_by_other_users(tmp_path, folder, umask):
    agents = tmp_path / "agents.toml"
    agents.write_text('[writer]\ncommand = ["sh", "-c", "echo output; umask > umask"]\n')
    environment = os.environ | {
        "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
        "DORMOUSE_AGENTS_FILE": str(agents),
        "DORMOUSE_RUN_DIR": str(folder / "run"),
        "DORMOUSE_VAR_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=PROJECT, env=environment, umask=umask, check=True)
    found = modes(folder)
    assert {"db.sqlite3", "secret-key", "admin-password", "run", "run/writer.lock", "run/writer.log"} <= set(found)
    assert not {name: oct(mode) for name, mode in found.items() if mode & 0o077}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    seen_by_agent = wait_for(lambda: (tmp_path / "umask").exists() and (tmp_path / "umask").read_text().strip())
    assert int(seen_by_agent, 8) == umask


def test_a_folder_that_is_open_is_narrowed_and_that_is_logged(folder, caplog):
    folder.mkdir()
    (folder / "db.sqlite3").touch()
    (folder / "run").mkdir()
    for path, mode in ((folder, 0o755), (folder / "db.sqlite3", 0o644), (folder / "run", 0o755)):
        path.chmod(mode)
    make_private_folder(folder)
    assert modes(folder) == {"db.sqlite3": 0o600, "run": 0o700}
    assert "could be opened by other users" in caplog.text
    caplog.clear()
    make_private_folder(folder)
    assert caplog.text == ""


def test_a_secret_that_was_open_is_refused_and_not_narrowed(folder):
    read_or_create_secret(folder / "secret-key", lambda: "secret")
    (folder / "secret-key").chmod(0o644)
    make_private_folder(folder)
    with pytest.raises(SecretFileError, match="Others may know the secret"):
        read_secret(folder / "secret-key")


def test_a_link_is_not_followed(tmp_path, folder):
    target = tmp_path / "elsewhere"
    target.touch()
    target.chmod(0o644)
    folder.mkdir(mode=0o700)
    (folder / "link").symlink_to(target)
    make_private_folder(folder)
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


@pytest.mark.parametrize("name", ["a file", "a file/var"])
def test_a_file_in_place_of_the_folder_is_said_in_one_sentence(tmp_path, name):
    (tmp_path / "a file").touch()
    environment = os.environ | {"DORMOUSE_VAR_DIR": str(tmp_path / name)}
    ended = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=PROJECT, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"DORMOUSE_VAR_DIR={tmp_path / name} cannot be used (")
    assert ended.stderr.count("\n") == 1
