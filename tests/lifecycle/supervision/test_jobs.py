"""Jobs run when the supervisor starts, and then at their intervals."""

import threading

from django.db import OperationalError

from lifecycle.supervision.jobs import RETRY_SECONDS, Job, Jobs
from lifecycle.supervision.supervisor import Supervisor
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.workers.heartbeats import ThisWorker
from tests.servers import wait_for


class Hand:
    """A clock that the test sets."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


def finish():
    """Wait until no job runs."""
    wait_for(lambda: not any(thread.name.startswith("job ") for thread in threading.enumerate()))


def test_a_job_runs_at_once_and_again_after_its_interval():
    now, runs = Hand(), []
    jobs = Jobs([Job("a", 100, lambda: runs.append(now.seconds))], now)
    for now.seconds in (0, 1, 99, 100, 101, 250):
        jobs.run_due()
        finish()
    assert runs == [0, 100, 250]


def test_a_job_never_runs_twice_at_once():
    now, runs, may_end = Hand(), [], threading.Event()

    def run():
        runs.append(now.seconds)
        may_end.wait(60)

    jobs = Jobs([Job("a", 1, run)], now)
    for now.seconds in (0, 10, 20):
        jobs.run_due()
    may_end.set()
    finish()
    assert runs == [0]


def test_a_job_that_fails_is_tried_again_sooner_and_stops_no_other(caplog):
    now, runs = Hand(), []

    def fail():
        runs.append("fail")
        raise ValueError("no")

    jobs = Jobs([Job("prune\nx", 1000, fail), Job("b", 1000, lambda: runs.append("b"))], now)
    for now.seconds in (0, RETRY_SECONDS - 1, RETRY_SECONDS):
        jobs.run_due()
        finish()
    assert sorted(runs) == ["b", "fail", "fail"]
    assert caplog.records[0].getMessage() == f"The job 'prune\\nx' failed; it is tried again in {RETRY_SECONDS} s"


def test_a_job_that_waits_for_the_database_says_so_once_and_without_a_traceback(caplog):
    now, answers = Hand(), [OperationalError("locked"), OperationalError("locked"), None, OperationalError("full")]

    def ask():
        if error := answers.pop(0):
            raise error

    jobs = Jobs([Job("deliver", 1, ask)], now)
    for now.seconds in range(4):
        jobs.run_due()
        finish()
    said = "The job 'deliver' waits, because the database cannot be used: "
    assert [record.getMessage() for record in caplog.records] == [f"{said}locked", f"{said}full"]
    assert not any(record.exc_info for record in caplog.records)


def test_a_supervisor_runs_the_jobs_that_apps_register(transactional_db, engine, events, monkeypatch):
    ran, ended = threading.Event(), threading.Event()
    monkeypatch.setattr("lifecycle.supervision.jobs._registered", [Job("a", 1000, ran.set)])
    worker = ThisWorker("test")
    worker.send_heartbeat()
    supervisor = Supervisor(Lifecycle(engine, worker, sink=events))
    monkeypatch.setattr(supervisor, "sweep", lambda: None)
    thread = threading.Thread(target=supervisor.run, args=[ended])
    thread.start()
    assert ran.wait(60)
    ended.set()
    thread.join(60)
    finish()
