"""The readiness probes, asked of real sockets."""

import socket
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest

from lifecycle.agent_http import agent_url
from lifecycle.engines import labels
from lifecycle.engines.base import Inspection, Phase
from lifecycle.transitions.starts import probes
from lifecycle.transitions.starts.probes import ATTEMPT_SECONDS, _probe_http, probe
from tests.lifecycle.conftest import NAME
from tests.servers import free_port

SECOND = timedelta(seconds=1)


#: What the message advises if no agent listens.
ELSEWHERE = "; does it listen on port 1, on all addresses?"


@contextmanager
def agent(behave):
    """Listens, and does to every connection what `behave(connection, ended)` says. Yields its address."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection):
            with connection:
                behave(connection, ended)

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=[connection], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)


def answers(head):
    def behave(connection, ended):
        connection.recv(4096)
        connection.sendall(head.encode())

    return behave


def closes(connection, ended):
    """Close the connection, as Docker's proxy does without an agent."""


def holds(connection, ended):
    ended.wait(60)


def trickles(connection, ended):
    """A byte now and then, and never a whole head."""
    for byte in b"HTTP/1.1 200 OK\r\n" * 1000:
        if ended.wait(0.05):
            return
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            return


def ask(address, **keys):
    found = {f"dormouse.{key.replace('_', '-')}": value for key, value in ({"port": "1"} | keys).items()}
    read = labels.read(NAME, found, health_interval=SECOND)
    return probe(Inspection(NAME, Phase.RUNNING, "id@1", read, addresses=(address,) if address else ()), read)


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_without_a_path_any_answer_is_ready(status):
    with agent(answers(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")) as address:
        assert ask(address) is None


@pytest.mark.parametrize(("status", "ready"), [(200, True), (204, True), (302, True), (404, False), (500, False)])
def test_with_a_path_only_success_is_ready(status, ready):
    with agent(answers(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")) as address:
        why_not = ask(address, ready_path="/health")
    assert why_not == (None if ready else f"GET http://127.0.0.1:{address[1]}/health answered {status}")


def test_the_body_is_not_waited_for():
    with agent(answers("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")) as address:
        assert ask(address) is None


def test_a_redirect_is_not_followed():
    with agent(answers("HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")) as address:
        assert ask(address, ready_path="/") is None


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with agent(answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as address:
        assert ask(address) is None


@pytest.mark.slow
@pytest.mark.parametrize("behave", [trickles, holds])
def test_an_attempt_is_bounded_however_slowly_the_agent_answers(behave):
    with agent(behave) as address:
        assert ask(address) == f"GET http://127.0.0.1:{address[1]}/ was not answered within {ATTEMPT_SECONDS} s"


@pytest.mark.parametrize("behave", [closes, answers("SSH-2.0-OpenSSH\r\n")])
def test_what_is_no_http_answer_is_not_ready(behave):
    with agent(behave) as address:
        assert "was not answered (" in ask(address)


def test_a_closed_port_is_told_in_the_systems_words():
    port = free_port()
    told = ask(("127.0.0.1", port))
    assert told == f"GET http://127.0.0.1:{port}/ was not answered (connection refused){ELSEWHERE}"


def test_a_connection_that_is_closed_without_a_word_has_no_agent_behind_it():
    with agent(closes) as address:
        assert ask(address).endswith(f"){ELSEWHERE}")


def test_tcp_is_ready_when_the_connection_holds():
    with agent(holds) as address:
        assert ask(address, ready="tcp") is None


def test_tcp_is_ready_when_the_agent_speaks_first():
    with agent(lambda connection, ended: (connection.sendall(b"hello"), ended.wait(60))) as address:
        assert ask(address, ready="tcp") is None


def test_tcp_is_not_ready_behind_a_proxy_that_accepts_and_closes():
    with agent(closes) as address:
        assert ask(address, ready="tcp") == f"127.0.0.1:{address[1]} closed the connection at once{ELSEWHERE}"


def test_tcp_must_hold_twice_running(monkeypatch):
    monkeypatch.setattr(probes, "TCP_HOLD_SECONDS", 1.0)  # a busy machine closed the second after more than 50 ms
    connections = []

    def holds_the_first(connection, ended):
        connections.append(connection)
        if len(connections) == 1:
            ended.wait(60)

    with agent(holds_the_first) as address:
        assert "closed the connection at once" in ask(address, ready="tcp")


def test_tcp_is_not_ready_without_a_listener():
    port = free_port()
    why_not = ask(("127.0.0.1", port), ready="tcp")
    assert why_not == f"127.0.0.1:{port} cannot be connected to (connection refused){ELSEWHERE}"


def test_running_is_ready_as_it_runs():
    assert ask(None, ready="running") is None


@pytest.mark.parametrize(
    ("says", "why_not"),
    [
        ("healthy", None),
        ("starting", "its HEALTHCHECK says starting"),
        ("unhealthy", "its HEALTHCHECK says unhealthy"),
        ("", "its HEALTHCHECK says nothing yet"),
    ],
)
def test_health_is_what_the_healthcheck_says(says, why_not):
    read = labels.read(NAME, {"dormouse.ready": "health"}, health_interval=SECOND)
    assert probe(Inspection(NAME, Phase.RUNNING, "id@1", read, health=says), read) == why_not


def test_a_port_without_an_address_says_what_to_do():
    assert ask(None) == "port 1 is neither published nor reachable on an address of its own"


def test_an_address_of_ip_version_6_is_written_in_brackets():
    assert agent_url(("::1", 80), "/x") == "http://[::1]:80/x"


@pytest.mark.parametrize(
    "target", ["mailto:x", "http:foo", "http://xn--/", "::", "/elsewhere", "https://other.example/"]
)
def test_a_redirect_is_an_answer_wherever_it_leads(target):
    head = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"
    with agent(answers(head)) as address:
        assert _probe_http(address, None) is None
        assert _probe_http(address, "/ready") is None
