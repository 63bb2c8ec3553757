"""Failed work is kept on the row of its instance until work succeeds, in whichever process."""

import pytest

from lifecycle import assembly
from lifecycle.models import Instance
from tests.lifecycle.conftest import NAME, row
from tests.lifecycle.dispatch.agent import answer as answer_of
from tests.lifecycle.dispatch.caller import PROXY, ask, post
from tests.servers import wait_for

FAILURE = {"at": "2026-11-23T18:55:30.508Z", "error": "answered 500 after 12 s", "status": 500}


def answer_with(worker_agent, status):
    worker_agent.answer = lambda request: answer_of(status)
    assert post().status_code == status


def wait_for_success():
    wait_for(lambda: row().work_failure is None, what="the success to be noted")


@pytest.mark.parametrize("status", [500, 503])
def test_failed_work_is_kept_until_work_succeeds(worker_agent, status):
    answer_with(worker_agent, status)
    wait_for(lambda: row().work_failure, what="the failure to be noted")
    assert row().work_failure["status"] == status
    answer_with(worker_agent, 200)
    wait_for_success()


def test_a_success_right_after_a_failure_is_not_overwritten_by_it(worker_agent, events):
    """Failures are written once a second."""
    answer_with(worker_agent, 500)
    answer_with(worker_agent, 200)
    wait_for(lambda: "work_failed" in events.types)
    assembly._dispatchers[0]._wakes.work_failures._write()
    wait_for_success()


def test_a_success_after_the_failure_of_another_process_is_noted(worker_agent):
    post()
    Instance.objects.filter(pk=NAME).update(work_failure=FAILURE)
    answer_with(worker_agent, 404)
    wait_for_success()


def test_an_answer_that_breaks_off_is_no_success(worker_agent):
    post()
    Instance.objects.filter(pk=NAME).update(work_failure=FAILURE)
    worker_agent.answer = lambda request: None
    assert ask("POST", f"{PROXY}/", b"work").status_code == 502
    wait_for(lambda: row().work_failure["status"] == 502)
