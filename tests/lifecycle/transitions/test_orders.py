"""Who ordered a start or a stop: kept with the claim, and told by whoever settles it."""

import pytest

from lifecycle.exceptions import Cause, StartFailed, StartRejected
from lifecycle.models import Instance
from lifecycle.orders import MAX_FOR_CHARACTERS, Order, Trigger, read_for
from lifecycle.state_machine import State
from tests.lifecycle.conftest import NAME, idle, make_row, recover, row, stop_idle
from tests.lifecycle.fake_engine import raising

ORDER = Order(Trigger.DISPATCH, "ci-bot", "token", "PR 812")
TOLD = {"trigger": "dispatch", "by": "ci-bot", "by_kind": "token", "for": "PR 812"}


def test_a_start_tells_who_ordered_it(lifecycle, box, events):
    lifecycle.waking.wake(NAME, ORDER)
    assert events.only("lazy_started").items() >= TOLD.items()


def test_a_failed_start_tells_who_ordered_it(lifecycle, engine, box, events):
    engine.before["start"] = [raising(StartRejected("port 80 is taken", Cause.PORT_CONFLICT))]
    with pytest.raises(StartFailed):
        lifecycle.waking.wake(NAME, ORDER)
    assert events.only("lazy_start_failed").items() >= TOLD.items()


def test_a_stop_does_not_tell_who_ordered_the_start(lifecycle, clock, box, events):
    lifecycle.waking.wake(NAME, ORDER)
    clock.go(60)
    stop_idle(lifecycle)
    stopped = events[-1][1]
    assert (stopped["trigger"], "by" in stopped) == ("idle", False)


def test_the_order_is_kept_with_the_claim_and_told_by_the_worker_that_recovers_it(lifecycle, clock, box, events):
    make_row(clock, State.STARTING, owner=lifecycle.worker.id, run=7, ordered=ORDER.data())
    box.begin()
    recover(lifecycle)
    assert events.only("lazy_started").items() >= TOLD.items()


def test_a_claim_of_the_version_before_has_no_order(lifecycle, clock, box, events):
    idle(lifecycle, clock)
    events.clear()
    Instance.objects.update(state=State.STOPPING, owner=lifecycle.worker.id, idle_seconds=60, ordered=None)
    recover(lifecycle)
    assert "trigger" not in events.only("lazy_stopped")
    assert row().state == State.ASLEEP


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (b"PR 812", "PR 812"),
        (b"  ", ""),
        ("Grüße · 夜".encode(), "Grüße · 夜"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        (b"x" * 201, "x" * MAX_FOR_CHARACTERS),
    ],
)
def test_what_the_work_is_for_is_read_from_any_bytes(header, text):
    assert read_for(header) == text
