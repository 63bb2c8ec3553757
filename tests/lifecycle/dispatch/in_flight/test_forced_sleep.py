"""Work in flight that a person breaks off: its caller and the log are told why, and it is not sent again."""

import asyncio

import pytest
from django.db import connections

from access.middleware import AsgiAccess
from lifecycle import assembly
from lifecycle.dispatch.gateway import Gateway
from lifecycle.exceptions import AgentBrokeOff
from lifecycle.orders import Order, Trigger
from lifecycle.state_machine import State
from tests.lifecycle.conftest import NAME, row
from tests.lifecycle.dispatch.agent import answer as answer_of
from tests.lifecycle.dispatch.caller import PROXY, TOKEN, call, post, scope_of
from tests.servers import wait_for

ALICE = {"by": "alice", "by_kind": "user"}
HEADS = ["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"]


@pytest.fixture
def break_off(lifecycle):
    """Gives an order that breaks work off, as a person does, from a thread of the agent."""

    def give(order="sleep"):
        if order == "sleep":
            lifecycle.control.sleep(NAME, Order(Trigger.SLEEP, **ALICE), force=True)
        else:
            lifecycle.control.disable(NAME, "", ALICE, force=True)
            wait_for(lambda: sweep(lifecycle), what="a sweep that stops the agent")
        connections.close_all()

    return give


def sweep(lifecycle):
    """Stop what is disabled. Return whether the agent is asleep.

    A sweep stops nothing if the lease of an earlier request, which another thread deletes, changes the row meanwhile.
    """
    for found in lifecycle.stopping.find_disabled():
        lifecycle.stopping.stop_disabled(found)
    return row().state == State.ASLEEP


def ask_twice(method):
    """Return the statuses of two requests, of which the second one uses the connection of the first one."""

    async def twice():
        found = [await call(AsgiAccess(Gateway()), scope_of(method, f"{PROXY}/", TOKEN, None)) for _ in range(2)]
        await assembly._dispatchers[0].close_connections()
        return [one.status_code for one in found]

    return asyncio.run(twice())


@pytest.mark.parametrize(("order", "done"), [("sleep", "put to sleep"), ("disable", "disabled")])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_changes_nothing_is_not_sent_again(worker_agent, sleeper, break_off, method, order, done):
    def answer(request):
        return answer_of() if len(worker_agent.requests) == 1 else break_off(order)

    worker_agent.answer = answer
    assert ask_twice(method) == [200, 502]
    assert worker_agent.failure() == {"status": 502, "error": f"broke off after N s: it was {done} by alice"}
    assert (len(worker_agent.requests), sleeper.run, sleeper.running) == (2, 1, False)
    assert row().state == State.ASLEEP


def test_work_that_was_leased_and_not_sent_yet_is_not_sent(worker_agent, sleeper, break_off, engine, lifecycle):
    """It is put to sleep, and closes the connection, between the lease and the first byte."""
    insert = type(lifecycle.leases).insert_as

    def insert_and_break_off(leases, *arguments):
        is_inserted = insert(leases, *arguments)
        break_off()
        worker_agent.close()
        return is_inserted

    object.__setattr__(
        lifecycle.leases, "insert_as", lambda *arguments: insert_and_break_off(lifecycle.leases, *arguments)
    )
    assert post().status_code == 502
    assert worker_agent.failure()["error"] == "broke off after N s: it was put to sleep by alice"
    assert (worker_agent.requests, sleeper.run) == ([], 1)


@pytest.mark.parametrize("head", HEADS)
def test_an_answer_that_ends_with_its_connection_is_known_to_be_broken_off(worker_agent, sleeper, break_off, head):
    def answer(request):
        request.connection.sendall(head.encode() + b"half of ")
        break_off()

    worker_agent.answer = answer
    with pytest.raises(AgentBrokeOff, match="reviewer-default broke off: it was put to sleep by alice"):
        post()
    assert worker_agent.failure() == {"status": 200, "error": "broke off after N s: it was put to sleep by alice"}


@pytest.mark.parametrize("head", HEADS)
def test_an_answer_that_ends_with_its_connection_is_whole_if_nobody_broke_it_off(worker_agent, events, head):
    worker_agent.answer = lambda request: head.encode() + b"all of it"
    if "close" not in head:
        worker_agent.answer = lambda request: request.connection.sendall(head.encode() + b"all of it")
    assert post().content == b"all of it"
    assert events.types == ["lazy_started"]


def test_an_earlier_order_is_not_taken_for_the_reason(worker_agent, sleeper, break_off, lifecycle):
    """It was put to sleep, started by a person, and then ended at work by itself."""
    post()
    break_off()
    sleeper.begin()

    def answer(request):
        sleeper.end(3)
        lifecycle_row = row()
        type(lifecycle_row).objects.mark_asleep(lifecycle_row, now=lifecycle.clock.now())
        connections.close_all()

    worker_agent.answer = answer
    assert post().status_code == 502
    assert worker_agent.failure()["error"] == "broke off after N s: it closed the connection without an answer"
