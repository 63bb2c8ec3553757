"""Receivers that turn the lifecycle's signals into rows of the log, in the transaction that changed the state."""

from datetime import datetime
from typing import Any

from django.dispatch import Signal

from events.log import record
from lifecycle.signals import (
    disabled,
    enabled,
    exited,
    keep_awake_ended,
    kept_awake,
    lazy_start_failed,
    lazy_started,
    lazy_stop_failed,
    lazy_stopped,
    work_failed,
)


def record_signal(signal: Signal, type: str) -> None:
    """Record an event of `type` whenever `signal` is sent from now on."""

    def receiver(sender: object, signal: Signal, instance: str, at: datetime, **data: Any) -> None:
        record(type, instance=instance, data={"instance": instance} | data, at=at)

    receiver.durable = True  # type: ignore[attr-defined]  # if it fails, the transition is rolled back
    signal.connect(receiver, weak=False, dispatch_uid=f"events.{type}")


record_signal(lazy_started, "container.lazy_started")
record_signal(lazy_stopped, "container.lazy_stopped")
record_signal(lazy_stop_failed, "container.lazy_stop_failed")
record_signal(lazy_start_failed, "container.lazy_start_failed")
record_signal(work_failed, "work.failed")
record_signal(exited, "container.exited")
record_signal(kept_awake, "container.kept_awake")
record_signal(keep_awake_ended, "container.keep_awake_ended")
record_signal(disabled, "container.disabled")
record_signal(enabled, "container.enabled")
