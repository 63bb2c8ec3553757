"""Threads for wakes: as many as there is work, of which a few are kept for a while."""

import threading
from queue import SimpleQueue

import pytest
from django.db import connection

from lifecycle.dispatch import kept_threads
from lifecycle.dispatch.kept_threads import MAX_WAITING, KeptThreads
from tests.servers import DEADLINE_SECONDS, wait_for


def own():
    return [one for one in threading.enumerate() if one.name == "kept for a test"]


@pytest.fixture
def threads():
    kept = KeptThreads("kept for a test")
    yield kept
    kept.shut_down()
    wait_for(lambda: not own())


@pytest.fixture
def run(threads):
    """Run work in a thread, and return the thread when it has done that."""

    def run(work=lambda: None):
        done = SimpleQueue()
        threads.run(lambda: (work(), done.put(threading.current_thread())))
        return done.get(timeout=DEADLINE_SECONDS)

    return run


def wait_until_kept(threads, count=1):
    wait_for(lambda: len(threads._waiting) == count)


def test_a_thread_that_waits_gets_the_next_work(threads, run):
    first = run()
    wait_until_kept(threads)
    assert run() is first


def test_work_waits_for_no_other_work(threads, run):
    gate = threading.Event()
    for _ in range(20):
        threads.run(lambda: gate.wait(DEADLINE_SECONDS))
    assert run() in own()
    gate.set()


def test_only_a_few_are_kept(threads):
    gate = threading.Event()
    for _ in range(20):
        threads.run(lambda: gate.wait(DEADLINE_SECONDS))
    gate.set()
    wait_for(lambda: len(own()) == MAX_WAITING)
    wait_until_kept(threads, MAX_WAITING)


def test_one_that_gets_no_work_ends(threads, run, monkeypatch):
    monkeypatch.setattr(kept_threads, "WAIT_SECONDS", 0.05)
    run()
    wait_for(lambda: not own())
    assert threads._waiting == []
    assert run()


def test_after_the_shutdown_none_is_kept(threads, run):
    run()
    wait_until_kept(threads)
    threads.shut_down()
    wait_for(lambda: not own())
    run()
    wait_for(lambda: not own())


def test_its_connection_to_the_database_is_kept_and_closed_with_it(threads, run, transactional_db):
    found = []
    for _ in range(2):
        run(lambda: (connection.ensure_connection(), found.append(connection.connection)))
        wait_until_kept(threads)
    assert found[0] is found[1]
    assert found[0] is not None
