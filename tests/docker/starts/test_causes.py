"""Why it did not start: every cause, made to happen in a real container, and the sentence that says what to do.

`interrupted` is made to happen in test_kill.py.
"""

import gc
import socket

import pytest
from django.utils import timezone

from lifecycle.engines.docker.engine import DockerEngine
from lifecycle.exceptions import Cause, StartFailed
from lifecycle.models import Instance
from lifecycle.state_machine import State
from lifecycle.transitions.lifecycle import Lifecycle
from tests.docker.support.faulty_proxy import Canned
from tests.docker.support.from_outside import logged

SECOND = 10**9
#: Accepts a connection, and says nothing.
SILENT = ["busybox", "nc", "-l", "-p", "8080", "-e", "sleep", "3600"]
#: Its readiness is a CGI that answers 500.
ILL = """
printf '#!/bin/sh\\nprintf "Status: 500\\\\r\\\\n\\\\r\\\\nno model"' > /www/cgi-bin/ready
busybox chmod +x /www/cgi-bin/ready
exec httpd -f -p 8080 -h /www
"""
EATS = ["busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]


@pytest.fixture
def why(lifecycle):
    """Wake an instance that cannot be woken, and return the cause and the sentence of its one event."""

    def wake(name, waker=lifecycle):
        with pytest.raises(StartFailed) as raised:
            waker.waking.wake(name)
        (event,) = logged(name)
        assert event.type == "container.lazy_start_failed"
        assert event.data == {"instance": name, "run": 1, "trigger": "dispatch"} | raised.value.data()
        row = Instance.objects.get(pk=name)
        assert (row.state, row.failure["error"]) == (State.ASLEEP, event.data["error"])
        return event.data["cause"], event.data["error"].replace(name, "NAME")

    return wake


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def host_port(containers, name):
    return int(containers.api.inspect_container(name)["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"])


def fails_to_get_ready(why, containers, **made):
    """The sentence of one that runs on, with the port of its own in place of the published one; it is stopped."""
    name = containers.create(**{"stop_timeout": "0s", "start_timeout": "1s"} | made)
    cause, error = why(name)
    assert cause == Cause.NOT_READY
    assert not containers.is_running(name)
    head, _, rest = error.partition("127.0.0.1:")
    return head + rest.lstrip("0123456789")


def test_a_port_that_a_program_holds(why, containers, taken_port):
    cause, error = why(containers.create(host_port=taken_port))
    assert cause == Cause.PORT_CONFLICT
    assert error.startswith("a port that it publishes is taken: ")
    assert error.endswith(
        f"127.0.0.1:{taken_port}: bind: address already in use; stop what holds it, or publish another"
    )


def test_a_port_that_a_container_holds(why, containers):
    holder = containers.create()
    containers.api.start(holder)
    port = host_port(containers, holder)
    assert why(containers.create(host_port=port)) == (
        Cause.PORT_CONFLICT,
        f"a port that it publishes is taken: Bind for 127.0.0.1:{port} failed: port is already allocated; "
        "stop what holds it, or publish another",
    )


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_one_that_exits(why, containers, code):
    name = containers.create(command=["sh", "-c", f"echo no model; exit {code}"])
    assert why(name) == (Cause.EXITED, f"exited with code {code} before it was ready")
    assert (logged(name)[0].data["exit_code"], logged(name)[0].data["log_tail"]) == (code, "no model\n")


def test_one_that_a_signal_ends(why, containers):
    name = containers.create(command=["sh", "-c", "busybox kill -SEGV $$"], host_config={"init": True})
    assert why(name) == (Cause.EXITED, "exited with code 139 (SIGSEGV) before it was ready")


def test_one_that_needs_too_much_memory(why, containers):
    """Under load Docker 20.10 did not tell that memory ran out in 43 of 300 cases, by no flag and by no event."""
    name = containers.create(command=EATS, host_config={"mem_limit": "8m"})
    told = why(name)
    while not containers.state(name)["OOMKilled"]:
        assert told == (Cause.EXITED, "exited with code 137 (SIGKILL) before it was ready")
        name = containers.create(command=EATS, host_config={"mem_limit": "8m"})
        told = why(name)
    assert told == (Cause.OOM, "ran out of memory before it was ready: give it more, or raise its limit")
    assert logged(name)[0].data["exit_code"] == 137


def test_a_probe_that_is_answered_with_500(why, containers):
    told = fails_to_get_ready(why, containers, command=["sh", "-c", ILL], ready_path="/cgi-bin/ready")
    assert told == "was not ready within 1 s: GET http:///cgi-bin/ready answered 500"


def test_a_probe_that_is_never_answered(why, containers):
    told = fails_to_get_ready(why, containers, command=SILENT, start_timeout="500ms")
    assert told == "was not ready within 0.5 s: GET http:/// was not answered within 1 s"


@pytest.mark.parametrize("ready", ["http", "tcp"])
def test_an_agent_that_listens_nowhere(why, containers, ready):
    told = fails_to_get_ready(why, containers, command=["sleep", "3600"], ready=ready)
    assert told.startswith("was not ready within 1 s: ")
    assert told.endswith("; does it listen on port 8080, on all addresses?")


def test_a_healthcheck_that_fails(why, containers):
    check = {"test": ["CMD", "cat", "/nothing"], "interval": SECOND, "retries": 1}
    told = fails_to_get_ready(
        why, containers, command=["sleep", "3600"], healthcheck=check, ready="health", start_timeout="3s"
    )
    assert told == "was not ready within 3 s: its HEALTHCHECK says unhealthy"


def test_an_entry_point_that_does_not_exist(why, containers):
    cause, error = why(containers.create(command=["/no/such/program"]))
    assert cause == Cause.START_REJECTED
    assert error.startswith('its command does not exist: exec: "/no/such/program": ')
    assert error.endswith("no such file or directory; correct the command, or the image")


def test_an_entry_point_that_may_not_run(why, containers):
    assert why(containers.create(command=["/www/index.html"])) == (
        Cause.START_REJECTED,
        'its command may not be executed: exec: "/www/index.html": permission denied; make it executable in the image',
    )


def test_a_paused_container(why, containers):
    name = containers.create()
    containers.api.start(name)
    containers.api.pause(name)
    assert why(name) == (Cause.START_REJECTED, "it is paused; resume it with: docker unpause NAME")
    assert containers.state(name)["Paused"]


@pytest.fixture
def known(containers):
    """The name of a container that was seen before."""
    name = containers.create()
    Instance.objects.create(name=name, since=timezone.now())
    return name


def test_a_container_that_is_gone(why, containers, known):
    containers.api.remove_container(known)
    assert why(known) == (
        Cause.MISSING,
        "the engine does not have it any more: create it again under this name, with the label dormouse.enable=true",
    )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_is_gone(why, known, lifecycle, tmp_path):
    gone = DockerEngine({"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"})
    assert why(known, Lifecycle(gone, lifecycle.worker)) == (
        Cause.ENGINE_UNREACHABLE,
        "the Docker Engine cannot be reached (No such file or directory): does it run, and is DOCKER_HOST right?",
    )
    gc.collect()  # the SDK leaves a socket open that it could not connect


def test_an_image_that_is_gone(why, known, behind_proxy, proxy):
    """The real engine starts a container whose image was removed by force."""
    proxy.answer("POST", "/start$", Canned(404, {"message": "No such image: agent:latest"}))
    assert why(known, behind_proxy) == (
        Cause.IMAGE_MISSING,
        "its image is gone: No such image: agent:latest; pull or build it again",
    )
