"""What Dormouse did to an instance, said at the moment the state of it is committed.

Sent inside the transaction that changes the state, so a receiver that fails for the log's sake rolls the transition
back. Such a receiver carries the attribute `durable = True`. The errors of all others are logged and passed over; they
do their own database work in `transaction.on_commit` or in a savepoint.
"""

from typing import Any

from django.dispatch import Signal

#: A start that Dormouse made succeeded: its readiness probe did.
#: instance: str, latency_ms: int, run: int, at: datetime; where known start_ms: int, ready_ms: int; recovered: True
#: where it was settled for a dead worker.
lazy_started = Signal()

#: An idle stop returned.
#: instance: str, idle_seconds: int, run: int, at: datetime; recovered: True, as above.
lazy_stopped = Signal()

#: A start failed, or its readiness probe did.
#: instance: str, error: str, run: int, at: datetime, cause: str; where known exit_code: int, log_tail: str;
#: recovered: True, as above.
lazy_start_failed = Signal()


def send(signal: Signal, **data: Any) -> None:
    """The default sink of the lifecycle. Raises what a durable receiver raised."""
    for receiver, response in signal.send_robust(sender=None, **data):
        if isinstance(response, Exception) and getattr(receiver, "durable", False):
            raise response
