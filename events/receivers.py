"""The lifecycle's signals become rows of the event log, in the transaction that changed the state."""

from datetime import datetime
from typing import Any

from django.dispatch import Signal

from events.log import record
from lifecycle.signals import lazy_start_failed, lazy_started, lazy_stopped


def log(signal: Signal, type: str) -> None:
    """From now on every sending of `signal` is an event of `type`."""

    def receiver(sender: object, signal: Signal, instance: str, at: datetime, **data: Any) -> None:
        record(type, instance=instance, data={"instance": instance} | data, at=at)

    receiver.durable = True  # type: ignore[attr-defined]  # its failure rolls the transition back
    signal.connect(receiver, weak=False, dispatch_uid=f"events.{type}")


log(lazy_started, "container.lazy_started")
log(lazy_stopped, "container.lazy_stopped")
log(lazy_start_failed, "container.lazy_start_failed")
