"""The client of dispatches, on real sockets."""

import socket
from types import SimpleNamespace

import pytest

from lifecycle.dispatch.agent_client import QUICK_ACK, _acknowledge_head


@pytest.fixture
def connected():
    """Provide both ends of a connection that is in use for a while, so that acknowledgements wait for data."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        agents, _ = listener.accept()
    with ours, agents:
        for _ in range(10):
            ours.sendall(b"work")
            agents.recv(10)
            agents.sendall(b"answer")
            ours.recv(10)
        yield ours


def answer(connection):
    """Return as much of an answer of aiohttp's as is looked at. `connection` is None if all of it has come."""
    transport = SimpleNamespace(get_extra_info={"socket": connection}.get)
    return SimpleNamespace(connection=SimpleNamespace(transport=transport) if connection else None)


@pytest.mark.skipif(QUICK_ACK is None, reason="only Linux has the option")
def test_a_head_without_its_body_is_acknowledged_at_once(connected):
    assert connected.getsockopt(socket.IPPROTO_TCP, QUICK_ACK) == 0
    _acknowledge_head(answer(connected))
    assert connected.getsockopt(socket.IPPROTO_TCP, QUICK_ACK) == 1


def test_a_whole_answer_needs_no_more():
    _acknowledge_head(answer(None))
