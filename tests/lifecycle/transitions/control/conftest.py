"""Who orders, and an instance that is ready."""

from datetime import timedelta

import pytest

from lifecycle.orders import Order, Trigger
from tests.lifecycle.conftest import NAME, use

ALICE = {"by": "alice", "by_kind": "user"}
BOB = {"by": "bob", "by_kind": "user"}
WAKE, SLEEP = Order(Trigger.WAKE, **ALICE), Order(Trigger.SLEEP, **ALICE)


def stop_disabled(lifecycle):
    """Stop what is disabled, as a sweep does, but in this thread."""
    for found in lifecycle.stopping.find_disabled():
        lifecycle.stopping.stop_disabled(found)


def keep_awake(control, clock, hours=1.0, caller=ALICE):
    return control.keep_awake(NAME, clock.now() + timedelta(hours=hours), caller)


@pytest.fixture
def control(lifecycle):
    return lifecycle.control


@pytest.fixture
def ready(lifecycle, box, events):
    use(lifecycle)
    events.clear()
    return box
