"""`manage.py wake`, `sleep`, `keep_awake`, `disable` and `enable`, as processes on the test's database."""

import getpass

import pytest

from events.event_types import sentence_of
from events.models import EventLog
from lifecycle.models import Instance, Lease, Worker
from lifecycle.state_machine import State
from lifecycle.transitions.control import MAX_AWAKE
from tests.lifecycle.test_commands import NAME, dispatched, manage

pytestmark = pytest.mark.server
assert manage  # the fixture

ME = getpass.getuser()


def ran(manage, *arguments):
    process = manage(*arguments)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output.decode(), errors.decode()


def sentences():
    return [sentence_of(event) for event in EventLog.objects.order_by("id")]


def test_each_of_them_says_what_it_does(manage):
    for command in ("wake", "sleep", "keep_awake", "disable", "enable"):
        code, output, _ = ran(manage, command, "--help")
        assert (code, "the instance, for example reviewer-default" in output) == (0, True)


def test_one_agent_is_woken_kept_awake_and_put_to_sleep(manage):
    code, output, _ = ran(manage, "wake", NAME)
    assert (code, output.startswith(f"{NAME} is ready, after ")) == (0, True)
    assert ran(manage, "wake", NAME)[:2] == (0, f"{NAME} was ready.\n")
    code, output, _ = ran(manage, "keep_awake", NAME, "--for", "1h")
    assert (code, output.startswith(f"{NAME} is kept awake until 2")) == (0, True)
    assert ran(manage, "keep_awake", NAME, "--end")[0] == 0
    assert ran(manage, "sleep", NAME)[:2] == (0, f"{NAME} is asleep.\n")
    assert Instance.objects.get(pk=NAME).state == State.ASLEEP
    started, kept, ended, stopped = sentences()
    assert started.endswith(f" · by {ME}")
    assert kept.endswith(f" by {ME}")
    assert ended == f"{NAME} no longer kept awake by {ME}"
    assert stopped == f"{NAME} put to sleep by {ME}"
    assert not Lease.objects.exists()
    assert not Worker.objects.exists()


def test_one_that_is_disabled_takes_no_work_until_it_is_enabled(manage):
    assert ran(manage, "disable", NAME, "--reason", "model key rotated")[0] == 0
    code, _, errors = dispatched(manage)
    assert code == 1
    assert f"{NAME} is disabled by {ME}: model key rotated" in errors
    assert ran(manage, "enable", NAME)[:2] == (0, f"{NAME} is enabled.\n")
    assert dispatched(manage)[0] == 0
    assert sentences()[:2] == [f"{NAME} disabled by {ME}: model key rotated", f"{NAME} enabled by {ME}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("wake", "nobody"), "No instance is called nobody."),
        (("wake", "fails"), "fails failed to start: exited with code 1 before it was ready"),
        (("keep_awake", NAME, "--for", "1h"), f"{NAME} is asleep. Only an agent that is ready can be kept awake"),
        (("keep_awake", NAME, "--for", "25h"), f"at most {MAX_AWAKE.days * 24} h"),
        (("keep_awake", NAME, "--until", "soon"), "'soon' is no time"),
    ],
)
def test_what_cannot_be_done_ends_with_1_and_says_why(manage, arguments, message):
    code, output, errors = ran(manage, *arguments)
    assert (code, output) == (1, "")
    assert message in errors
    assert "Traceback" not in errors
