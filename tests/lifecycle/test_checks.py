"""`manage.py check` reads the agents file; with `--deploy` it asks the database and the engine, too."""

import os
import subprocess
import sys

import pytest

from lifecycle.checks import check_agents_file, check_proxy_settings
from tests.servers import PROJECT


@pytest.fixture
def check(settings, tmp_path):
    settings.DORMOUSE_ENGINE = "process"

    def check(content):
        path = tmp_path / "agents.toml"
        path.write_text(content)
        settings.DORMOUSE_AGENTS_FILE = str(path)
        return [(found.id, found.msg) for found in check_agents_file(None)]

    return check


def test_a_right_file_has_no_issue(check):
    assert check('[agent]\ncommand = "true"\nport = 80\n') == []


def test_a_typo_is_named_with_the_key_that_was_meant(check):
    typo = "comand is no key of an agent, did you mean command?"
    assert check('[agent]\ncomand = "true"\n') == [
        ("lifecycle.W003", f"agent: command='' is not set; {typo}"),
        ("lifecycle.W004", f"agent: {typo}"),
    ]


def test_a_file_that_is_no_toml_is_named_with_the_line(check):
    ((number, said),) = check("[agent\n")
    assert number == "lifecycle.W002"
    assert "agents.toml cannot be read" in said
    assert "line 1" in said


def test_a_file_that_does_not_exist_is_named(settings, tmp_path):
    settings.DORMOUSE_ENGINE, settings.DORMOUSE_AGENTS_FILE = "process", str(tmp_path / "no.toml")
    assert "no.toml" in check_agents_file(None)[0].msg


def test_another_engine_has_no_agents_file(settings):
    settings.DORMOUSE_ENGINE = "docker"
    assert check_agents_file(None) == []


@pytest.mark.server
def test_with_deploy_the_database_and_the_engine_are_asked(tmp_path):
    own = {"DORMOUSE_VAR_DIR": str(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"}
    engine = {"DORMOUSE_ENGINE": "docker", "DOCKER_HOST": f"unix://{tmp_path}/no.sock", "DORMOUSE_TEST_DOCKER_HOST": ""}
    command = [sys.executable, "manage.py", "check", "--deploy", "--settings", "config.settings"]
    environment = os.environ | own | engine
    said = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False).stderr
    assert "(lifecycle.W005) The database is not migrated. Run: manage.py migrate" in said
    assert "(lifecycle.W007) the Docker Engine cannot be reached (No such file or directory)" in said


@pytest.mark.parametrize(
    ("https", "proxies", "public", "base_path", "found"),
    [
        (False, [], "", "", []),
        (True, ["127.0.0.1"], "https://dormouse.example.org/dormouse", "/dormouse", []),
        (True, [], "", "", ["lifecycle.W008"]),
        (True, ["127.0.0.1"], "https://dormouse.example.org", "/dormouse", ["lifecycle.W009"]),
    ],
)
def test_settings_for_a_proxy_fit_each_other(settings, https, proxies, public, base_path, found):
    settings.HTTPS, settings.DORMOUSE_TRUSTED_PROXIES = https, proxies
    settings.DORMOUSE_PUBLIC_URL, settings.DORMOUSE_BASE_PATH = public, base_path
    assert [warning.id for warning in check_proxy_settings(None)] == found
