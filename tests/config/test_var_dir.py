"""DORMOUSE_VAR_DIR names the folder of everything that Dormouse keeps."""

import os
import subprocess
import sys

import pytest

from tests.servers import PROJECT

pytestmark = pytest.mark.server
PROGRAM = "import config.settings as s; print(s.DATABASES['default']['NAME'], end='')"


def database_path(**places):
    """Return the path of the database that the settings name."""
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"} | places
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["var", "a b%20#?;ä"])
def test_the_default_database_is_there(tmp_path, name):
    assert database_path(DORMOUSE_VAR_DIR=str(tmp_path / name)) == str(tmp_path / name / "db.sqlite3")


def test_another_database_stays_where_it_is(tmp_path):
    places = {"DORMOUSE_VAR_DIR": str(tmp_path / "var"), "DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}
    assert database_path(**places) == f"{tmp_path}/other.db"
