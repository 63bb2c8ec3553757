"""States between running and not, in real containers: none of them is taken for running."""

import os
import signal
import threading

import pytest

from lifecycle.engines.base import Phase
from lifecycle.exceptions import Cause, StartFailed
from lifecycle.models import Instance
from lifecycle.state_machine import State
from tests.docker.support.from_outside import WORK, dispatch, types
from tests.servers import wait_for

LOOPS = {"host_config": {"restart_policy": {"Name": "unless-stopped"}}}
FAILS = ["sh", "-c", "echo no model; exit 3"]
#: After so many the engine's pause before its next start is 1.6 s.
CRASHES = 5
#: Fails at its first run, and serves at its second one.
FAILS_ONCE = ["sh", "-c", "[ -e /once ] && exec httpd -f -p 8080 -h /www; touch /once; exit 3"]


@pytest.mark.parametrize("ready", ["http", "running"])
@pytest.mark.parametrize("policy", ["unless-stopped", "always", "on-failure"])
def test_a_restart_loop_fails_at_once_with_its_code_and_is_stopped(lifecycle, containers, ready, policy):
    loops = {"restart_policy": {"Name": policy}}
    name = containers.create(command=FAILS, ready=ready, start_timeout="60s", host_config=loops)
    with pytest.raises(StartFailed) as raised:
        lifecycle.waking.wake(name)
    assert (raised.value.cause, raised.value.exit_code) == (Cause.EXITED, 3)
    assert raised.value.error == "exited with code 3 before it was ready"
    assert "no model" in raised.value.log_tail
    assert types(name) == ["lazy_start_failed"]
    assert lifecycle.engine.inspect(name).phase is Phase.EXITED
    assert Instance.objects.get(pk=name).state == State.ASLEEP


def test_a_restart_loop_of_what_a_signal_ends_names_the_signal(lifecycle, containers):
    command = ["sh", "-c", "busybox kill -SEGV $$"]
    host_config = LOOPS["host_config"] | {"init": True}
    name = containers.create(command=command, ready="running", start_timeout="60s", host_config=host_config)
    with pytest.raises(StartFailed, match=r"exited with code 139 \(SIGSEGV\) before it was ready"):
        lifecycle.waking.wake(name)
    assert types(name) == ["lazy_start_failed"]
    assert lifecycle.engine.inspect(name).phase is Phase.EXITED


def test_a_command_that_fails_at_once_is_not_ready_because_it_runs(lifecycle, containers):
    name = containers.create(command=FAILS, ready="running")
    with pytest.raises(StartFailed) as raised:
        lifecycle.waking.wake(name)
    assert (raised.value.cause, raised.value.exit_code) == (Cause.EXITED, 3)


def test_every_phase_is_seen(lifecycle, containers):
    engine, api = lifecycle.engine, containers.api
    name = containers.create()
    assert engine.inspect(name).phase is Phase.CREATED
    api.start(name)
    assert engine.inspect(name).phase is Phase.RUNNING
    api.pause(name)
    assert engine.inspect(name).phase is Phase.PAUSED
    api.unpause(name)
    api.kill(name)
    wait_for(lambda: engine.inspect(name).phase is Phase.EXITED)
    looping = containers.create(command=FAILS, **LOOPS)
    api.start(looping)
    seen = wait_for(lambda: (seen := engine.inspect(looping)).phase is Phase.RESTARTING and seen)
    assert (seen.exit_code, seen.running, seen.addresses) == (3, False, ())
    engine.stop(looping, 0)
    listed = {one.name: one.phase for one in engine.instances()}
    assert (listed[name], listed[looping]) == (Phase.EXITED, Phase.EXITED)


def test_a_dispatch_in_the_back_off_of_a_ready_agent_waits_for_its_next_run(lifecycle, containers):
    name = containers.create(command=FAILS_ONCE, **LOOPS)
    lifecycle.waking.find_or_register(name)
    containers.api.start(name)
    wait_for(lambda: lifecycle.engine.inspect(name).phase is Phase.RESTARTING)
    lifecycle.waking.wake(name)
    leased = lifecycle.leases.take(name)
    assert leased
    lifecycle.leases.give_back(leased.lease)
    assert types(name) == []


def test_dispatches_in_the_back_off_after_a_crash_are_answered_by_the_next_run(server, containers):
    """Each pause of the engine is twice as long as the one before, so later dispatches come in the middle of one."""
    name = containers.create(host_config={"restart_policy": {"Name": "always"}}, **WORK)
    assert dispatch(server, name).status_code == 200
    for number in range(CRASHES):
        pid = containers.state(name)["Pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda killed=pid: containers.state(name)["Pid"] != killed, what="the crash")
        answer = dispatch(server, name, f"work {number}")
        assert (answer.status_code, answer.text) == (200, f"working on: work {number}\ndone\n")
    assert types(name).count("lazy_started") == 1
    assert "lazy_start_failed" not in types(name)


def test_a_dispatch_to_one_that_goes_on_failing_says_with_which_code(lifecycle, containers):
    name = containers.create(command=FAILS, start_timeout="2s", **LOOPS)
    lifecycle.waking.find_or_register(name)
    containers.api.start(name)
    wait_for(lambda: lifecycle.engine.inspect(name).phase is Phase.RESTARTING)
    with pytest.raises(StartFailed) as raised:
        lifecycle.waking.wake(name)
    assert (raised.value.cause, raised.value.exit_code) == (Cause.EXITED, 3)
    assert raised.value.status == 503
    containers.api.stop(name, timeout=0)


def test_one_that_is_paused_while_it_starts_is_said_to_be_paused(lifecycle, containers):
    name = containers.create(environment={"BOOT": "30"}, start_timeout="3s", stop_timeout="0s")

    def pause():
        wait_for(lambda: containers.is_running(name))
        containers.api.pause(name)

    pausing = threading.Thread(target=pause)
    pausing.start()
    with pytest.raises(StartFailed, match="was not ready within 3 s: it is paused"):
        lifecycle.waking.wake(name)
    pausing.join()
    assert not containers.is_running(name)
