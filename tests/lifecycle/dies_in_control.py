"""A Dormouse that is killed while it carries an order out. Usage: `... dies_in_control NAME ORDER STEP`."""

import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import django


def killing(call: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return a function that makes the call, if there is one, and kills this process."""

    def do(*arguments: Any, **more: Any) -> None:
        if call:
            call(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    return do


def main(name: str, order: str, step: str) -> None:
    django.setup()
    from lifecycle import assembly
    from lifecycle.orders import Order, Trigger

    lifecycle = assembly.lifecycle("test")
    control, caller = lifecycle.control, {"by": "alice", "by_kind": "user"}
    if step == "before the claim":
        lifecycle.claims.claim_start = lifecycle.claims.claim_stop = killing(None)  # type: ignore[method-assign]
    elif step in ("before the engine acts", "after the engine has acted"):
        for act in ("start", "stop", "pause"):
            setattr(lifecycle.engine, act, killing(getattr(lifecycle.engine, act) if "after" in step else None))
    elif step == "before the commit":
        lifecycle.claims._sink = killing(lifecycle.claims._sink)
        object.__setattr__(control, "sink", killing(control.sink))
    orders: dict[str, Callable[[], object]] = {
        "wake": lambda: control.wake(name, Order(Trigger.WAKE, **caller)),
        "sleep": lambda: control.sleep(name, Order(Trigger.SLEEP, **caller)),
        "keep awake": lambda: control.keep_awake(name, control.clock.now() + timedelta(hours=1), caller),
        "disable": lambda: control.disable(name, "key", caller),
        "enable": lambda: control.enable(name, caller),
    }
    orders[order]()
    os.kill(os.getpid(), signal.SIGKILL)  # after the commit


if __name__ == "__main__":
    main(*sys.argv[1:])
