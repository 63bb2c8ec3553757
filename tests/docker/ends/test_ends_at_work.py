"""Agents that end by themselves in the middle of their work: the caller, the log and the card say so."""

import threading

import httpx
import pytest

from lifecycle.models import Instance, Lease
from lifecycle.state_machine import State
from tests.docker.support.from_outside import dispatch, logged, types
from tests.servers import wait_for

#: Takes work and answers nothing. A file says how it ends: with code 3, with code 0, or because it takes all memory.
ENDS = """
sleep 3600 | nc -l -p 8080 &
until [ -e /fail ] || [ -e /finish ] || [ -e /fill ]; do sleep 0.05; done
echo over
[ -e /fill ] && exec busybox tail /dev/zero
[ -e /finish ] || exit 3
"""
LIMITED = {"mem_limit": "24m", "memswap_limit": "24m"}


@pytest.fixture
def at_work(server, containers):
    """The name of an agent at work, with the answers that its caller has got."""
    name = containers.create(command=["sh", "-c", ENDS], ready="running", host_config=LIMITED)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(dispatch(server, name, "x")))
    caller.start()
    wait_for(lambda: Lease.objects.filter(instance=name).exists(), what="the work")
    yield name, answers
    caller.join()


def told(name):
    wait_for(lambda: {"exited", "work.failed"} <= set(types(name)), what="the end of it and of its work")
    (end,) = [event for event in logged(name) if event.type == "container.exited"]
    (failed,) = [event for event in logged(name) if event.type == "work.failed"]
    return end.data, failed.data


@pytest.mark.parametrize(("file", "code"), [("/fail", 3), ("/finish", 0)])
def test_one_that_exits_is_told_with_its_code_and_its_work(server, containers, at_work, file, code):
    name, answers = at_work
    containers.touch(name, file)
    end, failed = told(name)
    assert (end["exit_code"], end["cause"], end["work_in_flight"]) == (code, "exited", 1)
    assert end["log_tail"].endswith("over\n")
    assert failed["status"] == 502
    wait_for(lambda: answers, what="the answer")
    assert answers[0].status_code == 502
    shown = httpx.get(f"{server.url}/api/instances/{name}", headers=server.bearer).json()
    assert (shown["state"], shown["last_exit"]["exit_code"]) == ("asleep", code)


def test_one_that_runs_out_of_memory_is_told_as_such(containers, at_work):
    name, answers = at_work
    containers.touch(name, "/fill")
    wait_for(lambda: not containers.is_running(name), what="its end")
    cause = "oom" if containers.state(name)["OOMKilled"] else "exited"  # an engine under load does not always tell it
    end, _ = told(name)
    assert (end["exit_code"], end["cause"], end["work_in_flight"]) == (137, cause, 1)
    wait_for(lambda: answers, what="the answer")
    assert answers[0].status_code == 502


def test_one_that_a_person_stops_at_work_is_no_end_by_itself(containers, at_work):
    name, answers = at_work
    containers.api.stop(name, timeout=0)
    wait_for(lambda: answers and Instance.objects.filter(pk=name, state=State.ASLEEP), what="its end to be seen")
    wait_for(lambda: "work.failed" in types(name), what="the failed work")
    assert answers[0].status_code == 502
    assert "exited" not in types(name)
