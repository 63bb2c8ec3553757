"""Who is alive, and who is not any more."""

import os
import subprocess
import sys
import uuid

import pytest

from lifecycle.models import Worker
from lifecycle.workers import processes as procfs
from lifecycle.workers.heartbeats import DOUBT_SECONDS, FORGET_SECONDS, SILENT_SECONDS, ThisWorker, Watch
from tests.lifecycle.fake_clock import FakeClock

pytestmark = pytest.mark.django_db


@pytest.fixture
def worker(clock):
    worker = ThisWorker("test", clock)
    worker.beat()
    return worker


@pytest.fixture
def watch():
    """An observer with a clock of its own."""
    watch = Watch(FakeClock())
    watch.clock = watch._clock
    return watch


def make_worker(clock, **values) -> uuid.UUID:
    known = {"home": procfs.home(), "pid": os.getpid(), "pid_started": procfs.started(os.getpid())}
    return Worker.objects.create(kind="test", started=clock.now(), **known | values).id


def test_who_beats_is_alive(watch, worker):
    assert watch.dead([worker.id]) == set()


@pytest.mark.parametrize("owner", [None, uuid.uuid4()], ids=["nobody", "unknown"])
def test_nobody_and_the_unknown_are_dead(watch, worker, owner):
    assert watch.dead([owner, worker.id]) == {owner}


def test_one_that_begins_while_it_is_looked_for_is_alive(watch, clock):
    """Its lease is read, by a query that is lazy, when it has one: it has made itself known before that."""
    assert watch.dead(make_worker(clock) for _ in range(1)) == set()


def test_one_whose_process_is_gone_is_dead_at_once(watch, clock):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    id = make_worker(clock, pid=child.pid, pid_started=procfs.started(child.pid))
    assert watch.dead([id]) == set()
    child.communicate(b"\n")
    assert watch.dead([id]) == {id}


def test_one_whose_pid_was_given_to_another_is_dead_at_once(watch, clock):
    id = make_worker(clock, pid_started="1")
    assert watch.dead([id]) == {id}


def test_one_that_proc_hides_is_alive_as_long_as_it_beats(watch, clock, monkeypatch, tmp_path):
    id = make_worker(clock)
    gone = make_worker(clock, pid=2**22 + 1)
    monkeypatch.setattr(procfs, "PROC", tmp_path)
    assert watch.dead([id, gone]) == {gone}


@pytest.mark.parametrize("home", ["another boot/pid:[1]", ""])
def test_a_pid_of_elsewhere_says_nothing(watch, clock, home):
    id = make_worker(clock, home=home, pid=2**22 + 1, pid_started="1")
    assert watch.dead([id]) == set()


def test_one_that_is_silent_too_long_is_dead(watch, worker):
    watch.dead([worker.id])
    watch.clock.go(SILENT_SECONDS - 1)
    assert watch.dead([worker.id]) == set()
    watch.clock.go(1)
    assert watch.dead([worker.id]) == {worker.id}


def test_a_beat_ends_the_silence(watch, worker):
    watch.dead([worker.id])
    watch.clock.go(SILENT_SECONDS)
    worker.beat()
    assert watch.dead([worker.id]) == set()


def test_silence_is_not_taken_by_the_wall_clock(watch, worker):
    watch.dead([worker.id])
    watch.clock.set_back(-3600)
    assert watch.dead([worker.id]) == set()


def test_silence_begins_when_it_is_first_looked_for(watch, worker, clock):
    clock.go(3600)
    assert watch.dead([worker.id]) == set()


def test_one_that_could_not_beat_is_in_doubt(worker, clock):
    clock.go(DOUBT_SECONDS)
    assert not worker.is_in_doubt()
    clock.go(1)
    assert worker.is_in_doubt()


def test_one_is_in_doubt_until_it_has_beaten(clock):
    assert ThisWorker("test", clock).is_in_doubt()


def test_a_beat_ends_the_doubt(worker, clock):
    clock.go(DOUBT_SECONDS + 1)
    worker.beat()
    assert not worker.is_in_doubt()


def test_doubt_comes_before_others_hold_it_for_dead():
    assert DOUBT_SECONDS < SILENT_SECONDS


def test_one_that_leaves_is_dead_at_once(watch, worker):
    worker.end()
    assert watch.dead([worker.id]) == {worker.id}


def test_one_that_cannot_come_back_is_forgotten(watch, clock):
    make_worker(clock, pid_started="1")
    watch.forget()
    assert not Worker.objects.exists()


def test_one_that_is_silent_is_kept_for_it_may_only_be_frozen(watch, worker):
    watch.dead([worker.id])
    watch.clock.go(SILENT_SECONDS)
    watch.forget()
    assert Worker.objects.exists()


def test_one_that_is_silent_for_very_long_is_forgotten(watch, worker):
    watch.dead([worker.id])
    watch.clock.go(FORGET_SECONDS + 1)
    watch.forget()
    assert not Worker.objects.exists()


def test_one_that_was_forgotten_makes_itself_known_again(watch, worker):
    Worker.objects.all().delete()
    worker.beat()
    assert watch.dead([worker.id]) == set()


def test_a_process_is_known_by_its_start(clock, worker):
    found = Worker.objects.get()
    assert (found.pid, found.pid_started) == (os.getpid(), procfs.started(os.getpid()))


def test_a_name_with_blanks_and_parentheses_hides_no_start_time():
    stat = f"7 (a ) S (b) S {' '.join(str(number) for number in range(4, 30))}"
    assert procfs.start_time(stat) == "22"


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_zombie_does_not_live(state):
    assert procfs.start_time(f"7 (a) {state} {'0 ' * 30}") is None
