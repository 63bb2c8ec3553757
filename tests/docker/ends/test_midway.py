"""What others do to a container while Dormouse starts or stops it: one outcome, no claim left, and then it works."""

import threading

import pytest
from docker.errors import NotFound

from lifecycle.models import Instance, Lease
from tests.docker.support.from_outside import WORK, dispatch, logged
from tests.servers import wait_for


def remove(containers, name):
    containers.api.remove_container(name, force=True)


def rename(containers, name):
    containers.remove_too(f"{name}-away")
    containers.api.rename(name, f"{name}-away")


def recreate(containers, name):
    remove(containers, name)
    containers.create(name=name, **WORK)


def unlabel(containers, name):
    remove(containers, name)
    containers.create(name=name, labelled=False, **WORK)


def mislabel(containers, name):
    remove(containers, name)
    containers.create(name=name, idle_timeout="soon", **WORK)


def pause(containers, name):
    containers.api.pause(name)


def restart(containers, name):
    containers.api.restart(name, timeout=0)


def kill(containers, name):
    containers.api.kill(name)


def stop(containers, name):
    containers.api.stop(name, timeout=0)


def disconnect(containers, name):
    containers.api.disconnect_container_from_network(name, "bridge", force=True)


#: By what others do: the status of a dispatch after all is over, and the cause of a 503.
ACTS = {
    remove: (503, "missing"),
    rename: (503, "missing"),
    recreate: (200, None),
    unlabel: (503, "missing"),
    mislabel: (409, None),
    pause: (200, None),  # because Dormouse ends it, as one that is not ready, or as its stop
    restart: (200, None),
    kill: (200, None),
    stop: (200, None),
    disconnect: (409, None),
}


def outcomes(name):
    """Return what was told of the first run: whether it started, failed or was stopped."""
    ends = {"lazy_started", "lazy_start_failed", "lazy_stopped", "lazy_stop_failed"}
    told = [event for event in logged(name) if event.data.get("run") == 1]
    return [type for event in told if (type := event.type.removeprefix("container.")) in ends]


def check_what_is_left(server, name, act):
    """No claim and no lease is left, and the next dispatch says what is true of the container."""
    wait_for(lambda: not Instance.objects.filter(pk=name, owner__isnull=False), what="the end of the claim")
    wait_for(lambda: not Lease.objects.filter(instance=name), what="the end of the lease")
    answer = dispatch(server, name, "x")
    cause = answer.json()["cause"] if answer.status_code == 503 else None
    assert (answer.status_code, cause) == ACTS[act], answer.text
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_while_it_starts(server, containers, act):
    name = containers.create(environment={"BOOT": "1"}, start_timeout="3s", stop_timeout="0s", **WORK)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(dispatch(server, name, "x")))
    caller.start()
    wait_for(lambda: containers.is_running(name), what="its start")
    act(containers, name)
    caller.join()
    assert answers[0].status_code in (200, 404, 409, 502, 503)
    assert len(outcomes(name)) == 1
    check_what_is_left(server, name, act)


def is_stopping(containers, name):
    try:
        return containers.read(name, "/stopping") == ""
    except NotFound:
        return False


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_while_it_is_stopped(server, containers, act):
    name = containers.create(environment={"STOP": "1"}, idle_timeout="300ms", stop_timeout="2s", **WORK)
    assert dispatch(server, name).status_code == 200
    wait_for(lambda: is_stopping(containers, name), what="its stop")
    act(containers, name)
    wait_for(lambda: len(outcomes(name)) >= 2, what="the end of the stop")
    assert outcomes(name)[:2] == ["lazy_started", "lazy_stopped"]
    check_what_is_left(server, name, act)
