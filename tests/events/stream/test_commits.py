import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from django.db import transaction

from events.log import record
from events.stream import commits as commits_module
from events.stream.commits import CommitWatch, watch_commits
from tests.servers import wait_for

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
