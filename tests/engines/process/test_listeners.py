"""Work goes to the process that was started, and to no other program on its port."""

import socket
import sys
from unittest import mock

import pytest

from lifecycle.clock import Clock
from lifecycle.exceptions import Cause, StartRejected
from lifecycle.transitions.starts.probes import probe
from lifecycle.transitions.starts.readiness import Readiness
from tests.servers import free_port, wait_for

SLEEPS = '["sleep", "3600"]'
#: Listens with a socket that the test names, in a child that is a daemon, and answers nothing.
LISTENS = """
import os, socket, sys, time
if sys.argv[3] == "daemon":
    if os.fork(): os._exit(0)
    os.setsid()
    if os.fork(): os._exit(0)
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ":" in sys.argv[1] else 2,
    dualstack_ipv6=sys.argv[1] == "::", reuse_port=True)
print("listens", flush=True)
time.sleep(3600)
"""
#: Every kind of socket that accepts a connection to 127.0.0.1.
HOSTS = ["127.0.0.1", "0.0.0.0", "::"]


def listen(host, port, *, reuse_port=False):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::", reuse_port=reuse_port)


def add_listening(rig, host="127.0.0.1", how="plain"):
    script = rig.agents_file.with_name("listens.py")
    script.write_text(LISTENS)
    port = free_port()
    command = str([sys.executable, str(script), host, str(port), how])
    return rig.add_command(command, port=str(port), ready="tcp"), port


def start_and_listen(rig, name):
    rig.engine.start(name)
    wait_for(lambda: "listens" in rig.engine.output(name, 1))


def wait_until_ready(rig, name):
    readiness = Readiness(rig.engine, Clock(), mock.Mock(), probe)
    return readiness.wait_until_ready(name)


@pytest.mark.parametrize("reuse_port", [False, True])
@pytest.mark.parametrize("host", HOSTS)
def test_a_port_that_another_program_holds_before_the_start_is_a_conflict(process_rig, host, reuse_port):
    port = free_port()
    name = process_rig.add_command(SLEEPS, port=str(port))
    with listen(host, port, reuse_port=reuse_port), pytest.raises(StartRejected, match=f"its port {port}") as raised:
        process_rig.engine.start(name)
    assert raised.value.cause == Cause.PORT_CONFLICT
    assert not process_rig.engine.inspect(name).running


@pytest.mark.parametrize("host", HOSTS)
def test_another_program_that_answers_after_the_start_is_a_conflict(process_rig, host):
    port = free_port()
    name = process_rig.add_command(SLEEPS, port=str(port), ready="tcp")
    process_rig.engine.start(name)
    with listen(host, port), pytest.raises(StartRejected) as raised:
        wait_until_ready(process_rig, name)
    assert raised.value.cause == Cause.PORT_CONFLICT


@pytest.mark.parametrize("how", ["plain", "daemon"])
@pytest.mark.parametrize("host", HOSTS)
def test_the_process_that_was_started_or_a_descendant_is_ready(process_rig, host, how):
    name, port = add_listening(process_rig, host, how)
    start_and_listen(process_rig, name)
    assert wait_until_ready(process_rig, name).address == ("127.0.0.1", port)


def test_a_program_that_shares_the_port_is_a_conflict(process_rig):
    name, port = add_listening(process_rig)
    start_and_listen(process_rig, name)
    with listen("127.0.0.1", port, reuse_port=True), pytest.raises(StartRejected) as raised:
        process_rig.engine.check_listener(process_rig.engine.inspect(name))
    assert raised.value.cause == Cause.PORT_CONFLICT


def test_a_program_with_the_same_port_at_another_address_is_no_conflict(process_rig):
    name, port = add_listening(process_rig)
    start_and_listen(process_rig, name)
    with listen("127.0.0.2", port):
        assert wait_until_ready(process_rig, name).running
