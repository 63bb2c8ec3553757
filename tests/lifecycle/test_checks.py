"""`manage.py check` reads the agents file."""

import pytest

from lifecycle.checks import check_agents_file


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
