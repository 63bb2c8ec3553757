"""How containers end although Dormouse does not stop them: what is told, and what a person's own stop is."""

import os
import signal
import threading
import time

import httpx
import pytest
from django.utils import timezone

from lifecycle.models import EndNote, Instance, Lease
from lifecycle.state_machine import State
from lifecycle.supervision.supervisor import Supervisor
from tests.docker.support.engine_log import LONG
from tests.docker.support.from_outside import WORK, dispatch, logged, types
from tests.servers import DEADLINE_SECONDS, wait_for


@pytest.fixture
def api(containers):
    return containers.api


@pytest.fixture
def awake(containers, supervised):
    """An instance that Dormouse woke."""
    name = containers.create(environment={"BOOT": "0.5"}, **WORK)
    wait_for(lambda: Instance.objects.filter(pk=name), what="the new one")
    supervised.waking.wake(name)
    return name


def crash(containers, name, number=signal.SIGKILL):
    """Kill the container's main process past the engine, as the kernel would."""
    os.kill(containers.state(name)["Pid"], number)


def told(name):
    """Return the data of the one end that was told."""
    wait_for(lambda: "exited" in types(name), what="the end of it")
    (event,) = [event for event in logged(name) if event.type == "container.exited"]
    return event.data


def asleep(name):
    return wait_for(lambda: Instance.objects.filter(pk=name, state=State.ASLEEP).first(), what="its end")


def test_a_crash_while_idle(containers, awake):
    crash(containers, awake)
    data = told(awake)
    assert (data["exit_code"], data["cause"], data["work_in_flight"], data["run"]) == (137, "exited", 0, 1)
    assert data["log_tail"].endswith("listening\n")
    assert 0 < data["ran_seconds"] < DEADLINE_SECONDS
    assert "unobserved" not in data
    row = Instance.objects.get(pk=awake)
    assert (row.state, row.exit["exit_code"]) == (State.ASLEEP, 137)


def test_a_clean_exit_while_idle_is_told_and_is_no_trouble(containers, supervised):
    name = containers.create(command=["sh", "-c", "sleep 1; echo over"], ready="running")
    supervised.waking.wake(name)
    data = told(name)
    assert (data["exit_code"], data["log_tail"]) == (0, "over\n")
    assert asleep(name).exit is None


def test_out_of_memory(containers, supervised):
    limited = {"mem_limit": "16m", "memswap_limit": "16m"}
    command = ["sh", "-c", 'sleep 1; x=a; while :; do x="$x$x"; done']
    name = containers.create(command=command, ready="running", host_config=limited)
    supervised.waking.wake(name)
    wait_for(lambda: not containers.is_running(name))
    cause = "oom" if containers.state(name)["OOMKilled"] else "exited"  # an engine under load does not always tell it
    data = told(name)
    assert (data["exit_code"], data["cause"]) == (137, cause)


@pytest.mark.parametrize("act", ["stop", "kill", "pause", "restart"])
def test_what_a_person_does_is_no_event(api, awake, act):
    before = Instance.objects.get(pk=awake)
    getattr(api, act)(awake)
    wait_for(
        lambda: Instance.objects.filter(pk=awake).exclude(state=State.READY, incarnation=before.incarnation).exists()
    )
    assert types(awake) == ["lazy_started"]


def test_a_persons_own_signal_is_no_event_if_it_ends_by_it(api, containers, supervised):
    name = containers.create(command=["sh", "-c", "trap 'exit 138' USR1; while :; do sleep 0.1; done"], ready="running")
    supervised.waking.wake(name)
    api.kill(name, signal=signal.SIGUSR1)
    asleep(name)
    assert containers.state(name)["ExitCode"] == 128 + signal.SIGUSR1
    assert types(name) == ["lazy_started"]


def test_a_persons_other_signal_excuses_no_crash(api, containers, awake):
    api.kill(awake, signal=signal.SIGWINCH)
    crash(containers, awake)
    assert told(awake)["exit_code"] == 137


def test_a_removal_by_force_is_no_event(api, awake):
    api.remove_container(awake, force=True)
    asleep(awake)
    assert types(awake) == ["lazy_started"]


@pytest.mark.parametrize("act", ["rename", "swap"])
def test_work_in_a_container_that_is_renamed_goes_on(api, containers, supervised, act):
    """The work belongs to the container, and no end is told: nothing has ended."""
    names = [containers.create(idle_timeout="1s", **WORK) for _ in range(2)]
    for name in names:
        supervised.waking.wake(name)
    one, other = names
    lease = supervised.leases.take(one).lease
    containers.remove_too(new := f"{one}-new")
    api.rename(one, new)
    if act == "swap":
        api.rename(other, one)
        api.rename(new, other)
        new = other
    wait_for(lambda: Lease.objects.filter(pk=lease.pk, instance=new).exists(), what="the move of the lease")
    time.sleep(3)  # longer than its idle timeout
    assert containers.is_running(new)
    assert "exited" not in types(one) + types(other) + types(new)


def test_a_crash_that_the_engine_answers_with_a_start(containers, supervised):
    name = containers.create(host_config={"restart_policy": {"Name": "always"}}, **WORK)
    supervised.waking.wake(name)
    first = Instance.objects.get(pk=name).incarnation
    crash(containers, name)
    data = told(name)
    assert (data["exit_code"], data["cause"]) == (137, "exited")
    wait_for(lambda: Instance.objects.filter(pk=name, state=State.READY).exclude(incarnation=first))
    assert types(name) == ["lazy_started", "exited"]


def test_a_crash_at_work_is_told_with_the_work(server, containers):
    name = containers.create(command=["sh", "-c", "sleep 3600 | nc -l -p 8080"], ready="running")
    answers = []
    working = threading.Thread(target=lambda: answers.append(dispatch(server, name, "x")))
    working.start()
    wait_for(lambda: Lease.objects.filter(instance=name).exists(), what="the work")
    crash(containers, name)
    working.join()
    assert answers[0].status_code == 502
    data = told(name)
    assert (data["exit_code"], data["work_in_flight"]) == (137, 1)
    wait_for(lambda: "work.failed" in types(name))
    shown = httpx.get(f"{server.url}/api/instances/{name}", headers=server.bearer).json()
    assert shown["last_exit"]["work_in_flight"] == 1
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/api/instances/{name}/dispatch", headers=server.bearer, timeout=3)
    assert httpx.get(f"{server.url}/api/instances/{name}", headers=server.bearer).json()["last_exit"] is None


def test_a_dispatch_that_finds_it_dead_leaves_a_note_and_a_supervisor_tells_it(containers, lifecycle, transactional_db):
    """The note waits without a supervisor until the next run is ready."""
    name = containers.create(environment={"BOOT": "0.5"}, **WORK)
    lifecycle.waking.wake(name)
    crash(containers, name)
    wait_for(lambda: not containers.is_running(name))
    lifecycle.waking.wake(name)
    assert types(name) == ["lazy_started", "lazy_started"]
    assert EndNote.objects.count() == 1
    ended = threading.Event()
    supervising = threading.Thread(target=Supervisor(lifecycle).run, args=[ended])
    supervising.start()
    try:
        data = told(name)
    finally:
        ended.set()
        supervising.join()
    assert (data["run"], data["exit_code"]) == (1, 137)
    assert data["log_tail"].endswith("listening\n")
    assert not EndNote.objects.exists()


def test_a_supervisor_that_begins_in_the_middle_of_a_persons_stop_hears_of_it(
    containers, lifecycle, transactional_db, api
):
    name = containers.create(environment={"STOP": "2"}, **WORK)
    lifecycle.waking.wake(name)
    stopping = threading.Thread(target=api.stop, args=[name])
    stopping.start()
    wait_for(lambda: containers.read(name, "/stopping") == "" if _has(containers, name) else False)
    ended = threading.Event()
    supervising = threading.Thread(target=Supervisor(lifecycle).run, args=[ended])
    supervising.start()
    try:
        stopping.join()
        asleep(name)
    finally:
        ended.set()
        supervising.join()
    assert types(name) == ["lazy_started"]


def _has(containers, name):
    try:
        containers.read(name, "/stopping")
    except Exception:
        return False
    return True


@pytest.mark.parametrize(("by_hand", "expected"), [(True, ["lazy_started"]), (False, ["lazy_started", "exited"])])
def test_what_ends_while_dormouse_is_down_is_told_or_not_as_if_it_had_watched(server, containers, by_hand, expected):
    """The engine repeats its latest events."""
    name = containers.create(**WORK)
    assert dispatch(server, name).status_code == 200
    server.kill()
    if by_hand:
        containers.api.stop(name)
    else:
        crash(containers, name)
    wait_for(lambda: not containers.is_running(name))
    server.restart()
    asleep(name)
    assert types(name) == expected


ROUNDS = 50 if LONG else 3


def test_killed_at_any_moment_around_a_crash_there_is_one_event(server, containers):
    """Each round kills the container, and Dormouse a moment later than in the round before."""
    name = containers.create(**WORK)
    for number in range(ROUNDS):
        assert dispatch(server, name).status_code == 200
        crash(containers, name)
        began = timezone.now()
        time.sleep(0.3 * number / ROUNDS)  # the moment is what the rounds vary
        server.kill()
        server.restart()
        wait_for(lambda count=number + 1: types(name).count("exited") == count, what=f"the end of round {number}")
        assert timezone.now() > began
    assert dispatch(server, name).status_code == 200
    assert types(name) == ["lazy_started", "exited"] * ROUNDS + ["lazy_started"]
    assert not EndNote.objects.exists()
