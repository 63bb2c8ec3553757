import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connection, transaction

from events.log import record
from events.stream import commits as commits_module
from events.stream.commits import CommitWatch, watch_commits
from tests.servers import DEADLINE_SECONDS, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def only_hints_count(monkeypatch):
    monkeypatch.setattr(commits_module, "MAX_WAIT_SECONDS", 600)


@pytest.fixture
def heard() -> Iterator[CommitWatch]:
    with closing(watch_commits()) as found:
        yield found


class Waiting:
    """A thread in `wait()`."""

    def __init__(self, heard: CommitWatch) -> None:
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=heard.wait, args=(self.stopped,))
        self.thread.start()

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()


def test_a_commit_before_the_wait_is_not_missed(heard):
    record("a.b")
    heard.wait(threading.Event())


@pytest.mark.skipif("DORMOUSE_TEST_DATABASE_URL" in os.environ, reason="SQLite alone has a file")
def test_a_commit_is_not_missed_when_the_file_is_opened_anew(heard):
    """A new connection counts versions from the start, as the one before did."""
    record("a.b")
    file = connection.settings_dict["NAME"]
    os.utime(file, ns=(0, Path(file).stat().st_mtime_ns + 1))
    in_vain = threading.Event()
    deadline = threading.Timer(DEADLINE_SECONDS, in_vain.set)
    deadline.start()
    heard.wait(in_vain)
    deadline.cancel()
    assert not in_vain.is_set()


def test_a_commit_ends_the_wait(heard):
    waiting = Waiting(heard)
    record("a.b")
    waiting.thread.join(60)
    assert not waiting.thread.is_alive()


def test_each_commit_is_heard_once(heard):
    record("a.b")
    heard.wait(threading.Event())
    waiting = Waiting(heard)
    assert waiting.thread.is_alive()
    waiting.stop()


def test_what_is_not_committed_is_not_heard(heard):
    waiting = Waiting(heard)
    with transaction.atomic():
        record("a.b")
        transaction.set_rollback(True)
    assert waiting.thread.is_alive()
    waiting.stop()


def test_to_stop_ends_the_wait(heard):
    waiting = Waiting(heard)
    waiting.stopped.set()
    wait_for(lambda: not waiting.thread.is_alive())


def test_the_wait_ends_in_any_case(heard, monkeypatch):
    monkeypatch.setattr(commits_module, "MAX_WAIT_SECONDS", 0.02)
    heard.wait(threading.Event())
