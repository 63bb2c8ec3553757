"""Which workers are alive, and which are dead."""

import os
import subprocess
import sys
import uuid

import pytest

from lifecycle.models import Worker
from lifecycle.workers import processes
from lifecycle.workers.heartbeats import FORGET_SECONDS, OVERDUE_SECONDS, SILENT_SECONDS, LivenessWatch, ThisWorker
from tests.lifecycle.fake_clock import FakeClock

pytestmark = pytest.mark.django_db


@pytest.fixture
def worker(clock):
    worker = ThisWorker("test", clock)
    worker.send_heartbeat()
    return worker


class Watch(LivenessWatch):
    """An observer with a clock of its own, which the tests move."""

    def __init__(self):
        self.clock = FakeClock()
        super().__init__(self.clock)


@pytest.fixture
def watch():
    return Watch()


def make_worker(clock, **values) -> uuid.UUID:
    known = {"home": processes.home(), "pid": os.getpid(), "pid_started": processes.start_ticks(os.getpid())}
    return Worker.objects.create(kind="test", started=clock.now(), **known | values).id


def test_a_worker_that_sends_heartbeats_is_alive(watch, worker):
    assert watch.find_dead([worker.id]) == set()


@pytest.mark.parametrize("owner", [None, uuid.uuid4()], ids=["nobody", "unknown"])
def test_no_owner_and_an_unknown_owner_count_as_dead(watch, worker, owner):
    assert watch.find_dead([owner, worker.id]) == {owner}


def test_one_that_begins_while_it_is_looked_for_is_alive(watch, clock):
    """Its lease is read, by a query that is lazy, when it has one: it has made itself known before that."""
    assert watch.find_dead(make_worker(clock) for _ in range(1)) == set()


def test_one_whose_process_is_gone_is_dead_at_once(watch, clock):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    id = make_worker(clock, pid=child.pid, pid_started=processes.start_ticks(child.pid))
    assert watch.find_dead([id]) == set()
    child.communicate(b"\n")
    assert watch.find_dead([id]) == {id}


def test_one_whose_pid_was_given_to_another_is_dead_at_once(watch, clock):
    id = make_worker(clock, pid_started="1")
    assert watch.find_dead([id]) == {id}


def test_one_that_proc_hides_is_alive_while_it_sends_heartbeats(watch, clock, monkeypatch, tmp_path):
    id = make_worker(clock)
    gone = make_worker(clock, pid=2**22 + 1)
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert watch.find_dead([id, gone]) == {gone}


@pytest.mark.parametrize("home", ["another boot/pid:[1]", ""])
def test_a_pid_of_elsewhere_says_nothing(watch, clock, home):
    id = make_worker(clock, home=home, pid=2**22 + 1, pid_started="1")
    assert watch.find_dead([id]) == set()


def test_one_that_is_silent_too_long_is_dead(watch, worker):
    watch.find_dead([worker.id])
    watch.clock.go(SILENT_SECONDS - 1)
    assert watch.find_dead([worker.id]) == set()
    watch.clock.go(1)
    assert watch.find_dead([worker.id]) == {worker.id}


def test_a_heartbeat_ends_the_silence(watch, worker):
    watch.find_dead([worker.id])
    watch.clock.go(SILENT_SECONDS)
    worker.send_heartbeat()
    assert watch.find_dead([worker.id]) == set()


def test_silence_is_not_taken_by_the_wall_clock(watch, worker):
    watch.find_dead([worker.id])
    watch.clock.set_back(-3600)
    assert watch.find_dead([worker.id]) == set()


def test_silence_begins_when_it_is_first_looked_for(watch, worker, clock):
    clock.go(3600)
    assert watch.find_dead([worker.id]) == set()


def test_a_heartbeat_that_could_not_be_written_is_overdue(worker, clock):
    clock.go(OVERDUE_SECONDS)
    assert not worker.heartbeat_overdue()
    clock.go(1)
    assert worker.heartbeat_overdue()


def test_the_first_heartbeat_is_overdue_until_it_is_sent(clock):
    assert ThisWorker("test", clock).heartbeat_overdue()


def test_a_heartbeat_is_not_overdue_any_more_when_it_is_sent(worker, clock):
    clock.go(OVERDUE_SECONDS + 1)
    worker.send_heartbeat()
    assert not worker.heartbeat_overdue()


def test_doubt_comes_before_others_hold_it_for_dead():
    assert OVERDUE_SECONDS < SILENT_SECONDS


def test_one_that_leaves_is_dead_at_once(watch, worker):
    worker.end()
    assert watch.find_dead([worker.id]) == {worker.id}


def test_one_that_cannot_come_back_is_forgotten(watch, clock):
    make_worker(clock, pid_started="1")
    watch.forget()
    assert not Worker.objects.exists()


def test_one_that_is_silent_is_kept_for_it_may_only_be_frozen(watch, worker):
    watch.find_dead([worker.id])
    watch.clock.go(SILENT_SECONDS)
    watch.forget()
    assert Worker.objects.exists()


def test_one_that_is_silent_for_very_long_is_forgotten(watch, worker):
    watch.find_dead([worker.id])
    watch.clock.go(FORGET_SECONDS + 1)
    watch.forget()
    assert not Worker.objects.exists()


def test_one_that_was_forgotten_makes_itself_known_again(watch, worker):
    Worker.objects.all().delete()
    worker.send_heartbeat()
    assert watch.find_dead([worker.id]) == set()


def test_a_process_is_known_by_its_start(clock, worker):
    found = Worker.objects.get()
    assert (found.pid, found.pid_started) == (os.getpid(), processes.start_ticks(os.getpid()))


def test_a_name_with_blanks_and_parentheses_hides_no_start_time():
    stat = f"7 (a ) S (b) S {' '.join(str(number) for number in range(4, 30))}"
    assert processes.parse_start_ticks(stat) == "22"


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_zombie_does_not_live(state):
    assert processes.parse_start_ticks(f"7 (a) {state} {'0 ' * 30}") is None
