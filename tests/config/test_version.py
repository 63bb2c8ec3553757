"""One version, which the page, the command line and the API show."""

import subprocess
import sys
import tomllib

import pytest

import config
from tests.servers import PROJECT

pytestmark = pytest.mark.server


@pytest.mark.parametrize("argument", ["--version", "version"])
def test_the_command_line_names_the_version(argument):
    said = subprocess.run([sys.executable, "manage.py", argument], cwd=PROJECT, capture_output=True, text=True)
    assert said.stdout == f"Dormouse {config.__version__}\n"


def test_the_page_names_the_version(admin_client):
    assert f"Dormouse {config.__version__}" in admin_client.get("/agents/").content.decode()


def test_the_api_names_the_version(admin_client):
    assert admin_client.get("/api/instances").json()["version"] == config.__version__


def test_the_package_takes_its_version_from_there():
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert pyproject["project"]["dynamic"] == ["version"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "config.__version__"}
