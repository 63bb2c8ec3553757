"""Signals that say what Dormouse did to an instance, sent when the new state is committed.

They are sent inside the transaction that changes the state. If a receiver that has the attribute `durable = True`
raises an error, the transition is rolled back. The errors of all other receivers are logged and ignored. Such receivers
do their own database work in `transaction.on_commit` or in a savepoint.

"If known" arguments are left out if they are not known. `recovered` is True if another worker settled the transition
for one that died, and is left out otherwise.
"""

from collections.abc import Callable, Mapping
from typing import Any

from django.dispatch import Signal

#: Receives every event as `sink(signal, **data)`, inside the transaction that reports it.
Sink = Callable[..., None]

#: A start that Dormouse made succeeded: the instance was started, and its readiness probe succeeded.
#: Arguments: instance: str, latency_ms: int, run: int, at: datetime. If known: needs_ms: int, start_ms: int, ready_ms:
#: int, mode: "pause", recovered.
lazy_started = Signal()

#: Dormouse stopped an idle instance.
#: Arguments: instance: str, idle_seconds: int, run: int, at: datetime. If known: recovered, unconfirmed.
lazy_stopped = Signal()

#: The engine refused to stop an idle instance. It is ready, and another try comes later. Sent at the first of a series.
#: Arguments: instance: str, error: str, idle_seconds: int, run: int, at: datetime. If known: recovered.
lazy_stop_failed = Signal()

#: A start that Dormouse made failed, or its readiness probe did not succeed in time.
#: Arguments: instance: str, error: str, run: int, at: datetime, cause: str. If known: exit_code: int, log_tail: str,
#: recovered.
lazy_start_failed = Signal()

#: Work failed: the agent answered 5xx or too late, could not be reached, or broke off.
#: Arguments: instance: str, error: str, status: int (what the caller got), seconds: float, at: datetime. If known:
#: count: int (how many failures this event stands for, if there was more than one), trace_id: str.
work_failed = Signal()


#: A ready instance ended although neither Dormouse nor a person asked its engine for that.
#: Arguments: instance: str, exit_code: int or None, cause: "exited", "oom" or "lost", ran_seconds: float,
#: work_in_flight: int, log_tail: str, at: datetime. If known: run: int. unobserved is True if no worker watched, and is
#: left out otherwise.
exited = Signal()

#: A caller decided that an instance is not put to sleep before `until`, though it is idle.
#: Arguments: instance: str, until: str, at: datetime. If known: by: str, by_kind: str, for: str.
kept_awake = Signal()

#: A caller ended that before its time. `until` is when it would have ended.
#: Arguments: instance: str, until: str, at: datetime. If known: by: str, by_kind: str, for: str.
keep_awake_ended = Signal()

#: A caller disabled an instance: it takes no new work, and is put to sleep.
#: Arguments: instance: str, reason: str, at: datetime. If known: by: str, by_kind: str.
disabled = Signal()

#: A caller enabled it again. `reason` is why it was disabled.
#: Arguments: instance: str, reason: str, at: datetime. If known: by: str, by_kind: str.
enabled = Signal()

#: A dispatch got the head of its answer, from its agent or from Dormouse itself. This is sent on the event loop and in
#: no transaction, so receivers do not wait.
#: Arguments: instance: str (empty if no instance of that name is known, or access was refused), status: int. If known:
#: wake_seconds: float (how long it waited for the instance to wake), overhead_seconds: float (from the headers until
#: the work was sent).
dispatched = Signal()

#: The exit codes of an end that is no failure if no work was in flight and it was not observed: a person may have asked
#: for it with SIGKILL or SIGTERM.
HARMLESS_UNOBSERVED_CODES = (0, 137, 143)


def is_failed_exit(data: Mapping[str, Any]) -> bool:
    """Return whether the data of `exited` tell of a failure: work was in flight, or the exit code is an error."""
    harmless = HARMLESS_UNOBSERVED_CODES if data.get("unobserved") else (0,)
    return bool(data["work_in_flight"]) or data["exit_code"] not in harmless


def send(signal: Signal, **data: Any) -> None:
    """Send a signal to all receivers. Raises what a durable receiver raised. This is the lifecycle's default sink."""
    for receiver, response in signal.send_robust(sender=None, **data):
        if isinstance(response, Exception) and getattr(receiver, "durable", False):
            raise response
