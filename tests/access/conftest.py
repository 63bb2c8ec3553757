import pytest

from access import tokens


class AtOnce:
    """Writes the last use at once, in the test's own transaction."""

    def submit(self, write, *arguments):
        write(*arguments)


@pytest.fixture
def uses_are_written_at_once(monkeypatch):
    monkeypatch.setattr(tokens, "_writer", AtOnce())
    monkeypatch.setattr("access.tokens.connection.close", lambda: None)
