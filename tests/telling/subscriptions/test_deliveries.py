"""Each subscription has its turn in a thread of its own, in one process at a time."""

import threading
import uuid

import pytest

from events.log import record
from lifecycle.clock import Clock
from lifecycle.models import Worker
from lifecycle.workers import processes
from lifecycle.workers.heartbeats import ThisWorker
from telling.subscriptions import deliveries as module
from telling.subscriptions.deliveries import Deliveries
from telling.subscriptions.models import Subscription
from tests.servers import wait_for
from tests.telling.subscriptions.receivers import healthy

pytestmark = pytest.mark.django_db(transaction=True)


def finish():
    """Wait until no turn is under way."""
    wait_for(lambda: not any(thread.name.startswith("delivery ") for thread in threading.enumerate()))


@pytest.fixture
def deliveries():
    worker = ThisWorker("supervise", Clock())
    worker.send_heartbeat()
    yield Deliveries(worker, Clock())
    finish()


@pytest.fixture
def hang():
    """A receiver's behaviour that ends with the test."""
    ended = threading.Event()

    def behave(request, number):
        ended.wait(60)
        healthy(request, number)

    yield behave
    ended.set()


def test_one_that_hangs_holds_up_no_other(receive, subscribe, deliveries, hang):
    slow, quick = receive(hang), receive()
    subscribe(slow.url, "slow")
    subscribe(quick.url, "quick")
    ids = [record("a.b").id]
    deliveries.begin_due()
    wait_for(lambda: quick.ids() == ids)
    ids.append(record("a.b").id)

    def begin_and_look():
        deliveries.begin_due()
        return quick.ids() == ids

    wait_for(begin_and_look)
    assert len(slow.requests) == 1


def test_more_than_there_are_threads_all_have_their_turn(receive, subscribe, deliveries, monkeypatch):
    monkeypatch.setattr(module, "MAX_TURNS", 1)
    receivers = [receive() for _ in range(3)]
    for number, receiver in enumerate(receivers):
        subscribe(receiver.url, f"s{number}")
    record("a.b")
    for _ in receivers:
        deliveries.begin_due()
        finish()
    assert [len(receiver.requests) for receiver in receivers] == [1, 1, 1]


def test_a_living_owner_keeps_its_subscription(receive, subscribe, deliveries):
    receiver = receive()
    row, _ = subscribe(receiver.url)
    other = ThisWorker("supervise", Clock())
    other.send_heartbeat()
    assert Subscription.objects.claim(row, other.id)
    record("a.b")
    deliveries.begin_due()
    finish()
    assert not receiver.requests
    other.end()
    deliveries.begin_due()
    wait_for(lambda: len(receiver.taken) == 1)


def test_the_subscriptions_of_a_process_that_is_gone_are_taken_over_at_once(receive, subscribe, deliveries):
    receiver = receive()
    row, _ = subscribe(receiver.url)
    gone = Worker.objects.create(
        id=uuid.uuid4(), kind="web", home=processes.home(), pid=2**22, pid_started="1", started=Clock().now()
    )
    assert Subscription.objects.claim(row, gone.id)
    record("a.b")
    deliveries.begin_due()
    wait_for(lambda: len(receiver.taken) == 1)


def test_a_turn_begins_where_the_one_before_has_ended_though_the_row_was_read_earlier(receive, subscribe, deliveries):
    receiver = receive()
    subscribe(receiver.url)
    record("a.b")
    deliveries.begin_due()
    finish()
    read_earlier = Subscription.objects.get()
    record("a.b")
    deliveries.begin_due()
    finish()
    deliveries._begin(read_earlier)
    finish()
    assert len(receiver.taken) == 2


def test_a_worker_that_has_ended_begins_nothing(receive, subscribe):
    receiver = receive()
    subscribe(receiver.url)
    record("a.b")
    worker = ThisWorker("supervise", Clock())
    worker.send_heartbeat()
    worker.end()
    Deliveries(worker, Clock()).begin_due()
    finish()
    assert not receiver.requests


def test_one_that_is_paused_or_waits_for_its_next_try_has_no_turn(receive, subscribe, deliveries):
    receiver, now = receive(), Clock().now()
    subscribe(receiver.url, "paused", paused=now)
    subscribe(receiver.url, "waits", next_try=now.replace(year=now.year + 1))
    record("a.b")
    deliveries.begin_due()
    finish()
    assert not receiver.requests
