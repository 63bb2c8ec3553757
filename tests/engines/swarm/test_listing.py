"""Listing services while others remove some."""

import pytest

from lifecycle.engines.swarm.engine import SwarmEngine
from lifecycle.exceptions import EngineBusy, Missing


def answer(engine, monkeypatch, *answers):
    """Let a list have these answers, one after the other."""
    left = iter(answers)

    def ask(call, name, do):
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(engine._managers, "ask", ask)


@pytest.fixture
def engine():
    return SwarmEngine(("unix:///no/such/socket",))


def test_a_service_that_is_removed_before_its_tasks_are_asked_for_is_not_listed(engine, monkeypatch):
    answer(engine, monkeypatch, Missing(""), [])
    assert engine.instances() == []


def test_a_list_that_is_never_whole_says_why(engine, monkeypatch):
    answer(engine, monkeypatch, *[Missing("")] * 20)
    with pytest.raises(EngineBusy, match="removed again and again"):
        engine.instances()
