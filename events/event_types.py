"""How each event type is displayed: its title, its icon, and how an event reads as a sentence.

A type that is not listed here needs no entry. Its title is made from its name, and its icon is a generic one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from events.models import LOG_RESTORED, EventLog
from lifecycle.signals import HARMLESS_UNOBSERVED_CODES, is_failed_exit


@dataclass(frozen=True)
class EventDisplay:
    """The title, the icon and the sentence of an event type."""

    title: str
    #: The name of an icon of the Agents page.
    icon: str
    #: Makes the part of the sentence after the instance's name, from the event's data.
    predicate: Callable[[dict[str, Any]], str] | None = None
    #: Whether an event of this type is a failure, or how its data tell.
    is_failure: bool | Callable[[dict[str, Any]], bool] = False
    #: Whether the predicate itself says who ordered it, or how its data tell.
    names_caller: bool | Callable[[dict[str, Any]], bool] = False


DISPLAYS = {
    "container.lazy_started": EventDisplay(
        "Started", "play", lambda data: f"{_begun(data)} in {format_duration(data['latency_ms'])}"
    ),
    "container.lazy_stopped": EventDisplay(
        "Stopped", "moon", lambda data: _stopped(data), names_caller=lambda data: data.get("trigger") == "sleep"
    ),
    "container.lazy_stop_failed": EventDisplay(
        "Could not be stopped",
        "alert",
        lambda data: f"could not be {_put_to_sleep(data)}: {data['error']}",
        is_failure=True,
    ),
    "container.lazy_start_failed": EventDisplay(
        "Failed to start", "alert", lambda data: f"failed to start: {data['error']}", is_failure=True
    ),
    "container.exited": EventDisplay("Exited", "moon", lambda data: describe_exit(data), is_failure=is_failed_exit),
    "work.failed": EventDisplay("Failed at work", "alert", lambda data: _failed_at_work(data), is_failure=True),
    "container.kept_awake": EventDisplay(
        "Kept awake",
        "dot",
        lambda data: f"kept awake until {_time(data['until'])}{_by(data)}",
        names_caller=True,
    ),
    "container.keep_awake_ended": EventDisplay(
        "No longer kept awake", "dot", lambda data: f"no longer kept awake{_by(data)}", names_caller=True
    ),
    "container.disabled": EventDisplay(
        "Disabled", "dot", lambda data: f"disabled{_by(data)}{_because(data)}", names_caller=True
    ),
    "container.enabled": EventDisplay("Enabled", "dot", lambda data: f"enabled{_by(data)}", names_caller=True),
    LOG_RESTORED: EventDisplay("Event log replaced by an older copy", "alert"),
}

#: Why a start failed, in words. A cause that is not listed is displayed as it is.
CAUSES = {
    "lost": "its node is lost",
    "engine_unreachable": "the engine could not be reached",
    "missing": "the engine no longer has it",
    "image_missing": "its image is missing",
    "port_conflict": "its port is taken",
    "start_rejected": "the engine refused to start it",
    "exited": "it exited before it was ready",
    "oom": "it ran out of memory",
    "not_ready": "it was not ready in time",
    "interrupted": "the start was interrupted",
    "unschedulable": "no node of the swarm can run it",
    "dependency": "an agent that it needs failed to start",
}

#: What to do about a failure, by its cause. The error of the other causes says that itself.
ADVICE = {
    "engine_unreachable": "Check that the engine runs. It is asked again every few seconds.",
    "exited": "Read its output. The next dispatch starts it again.",
    "lost": "Look after its node. The next dispatch starts it on another one.",
    "oom": "Give it more memory, or let it use less. The next dispatch starts it again.",
    "not_ready": "Read its output for what it waits for, or give it more time with the label dormouse.start-timeout.",
    "interrupted": "Dispatch again: the next start does not depend on this one.",
}
_STOP_ADVICE = (
    "Stop it yourself, or correct what the engine says. It takes work meanwhile, and the stop is tried again."
)
_WORK_ADVICE = (
    "Read its output at that time. This work is not sent again; the next dispatch reaches the agent as usual."
)
_SLOW_ADVICE = "Read its output at that time, or give it longer to answer with the label dormouse.dispatch-timeout."

#: The types whose events are all failures.
FAILURE_TYPES = frozenset(type for type, display in DISPLAYS.items() if display.is_failure is True)
#: What `is_failed_exit` decides, as a condition of the database.
_HARMLESS_EXIT = Q(data__work_in_flight=0) & (
    Q(data__exit_code=0) | Q(data__unobserved=True, data__exit_code__in=HARMLESS_UNOBSERVED_CODES)
)
#: Matches the events that are failures.
FAILURES = Q(type__in=FAILURE_TYPES) | Q(type="container.exited") & ~_HARMLESS_EXIT


def display_of(type: str) -> EventDisplay:
    """Return how `type` is displayed. The title of an unlisted `deploy.finished` is "Deploy finished"."""
    known = DISPLAYS.get(type)
    if known:
        return known
    title = type.replace(".", " ").replace("_", " ").strip() or type
    return EventDisplay(title[0].upper() + title[1:], "dot")


def is_failure(event: EventLog) -> bool:
    """Return whether the event tells of a failure. If its data do not fit its type, return True."""
    decide = display_of(event.type).is_failure
    try:
        return decide if isinstance(decide, bool) else decide(event.data)
    except (KeyError, TypeError):
        return True


def icon_of(event: EventLog) -> str:
    """Return the name of the event's icon. Every failure has the same."""
    return "alert" if is_failure(event) else display_of(event.type).icon


def advice_on(event: EventLog) -> str:
    """Return what to do about a failure, or an empty text if its error says that, or nothing is known."""
    if not is_failure(event):
        return ""
    if event.type == "container.lazy_stop_failed":
        return _STOP_ADVICE
    if event.type == "work.failed":
        return _SLOW_ADVICE if event.data.get("status") == 504 else _WORK_ADVICE
    return ADVICE.get(str(event.data.get("cause")), "")


def predicate_of(event: EventLog) -> str | None:
    """Return the part of the sentence after the instance's name: `started in 287 ms · PR 812 · by ci-bot`.

    Return None if the type has none, or the event's data do not fit it.
    """
    display = display_of(event.type)
    try:
        return display.predicate(event.data) + _caller_of(event) if display.predicate and event.instance else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _caller_of(event: EventLog) -> str:
    """Return what the work was for and who ordered it, as the end of a sentence."""
    names_caller = display_of(event.type).names_caller
    is_named = names_caller if isinstance(names_caller, bool) else names_caller(event.data)
    return caller_of(event.data | {"by": None} if is_named else event.data)


def caller_of(data: dict[str, Any]) -> str:
    """Return ` · PR 812 · by ci-bot`, as far as that is known."""
    words = [str(data["for"])] if data.get("for") else []
    words += [f"by {data['by']}"] if data.get("by") else []
    return "".join(f" · {word}" for word in words)


def _by(data: dict[str, Any]) -> str:
    return f" by {data['by']}" if data.get("by") else ""


def _because(data: dict[str, Any]) -> str:
    return f": {data['reason']}" if data["reason"] else ""


def _stopped(data: dict[str, Any]) -> str:
    """Return why it was stopped: by a person, because it is disabled, or because it was idle."""
    if data.get("trigger") == "sleep":
        return f"put to sleep{_by(data)}"
    if data.get("trigger") == "disabled":
        return f"{_put_to_sleep(data)} because it is disabled"
    lost = "; its node is lost, and it may run on there" if data.get("unconfirmed") else ""
    return f"{_put_to_sleep(data)} after {format_duration(data['idle_seconds'] * 1000)} idle{lost}"


def _time(text: str) -> str:
    """Return a time as `05:40` in the present time zone: the reader's on a page, UTC elsewhere."""
    moment = parse_datetime(text)
    if moment is None:
        raise ValueError(f"{text!r} is no time")
    return f"{timezone.localtime(moment):%H:%M}"


def sentence_of(event: EventLog) -> str:
    """Return `reviewer-default started in 287 ms`; for an unlisted type, `Deploy finished · reviewer-default`."""
    predicate = predicate_of(event)
    if predicate is not None:
        return f"{event.instance} {predicate}"
    title = display_of(event.type).title
    return f"{title} · {event.instance}" if event.instance else title


def describe_exit(data: dict[str, Any]) -> str:
    """Return `exited with code 137 after 3 min, with 1 piece of work in flight`."""
    code = "" if data["exit_code"] is None else f" with code {int(data['exit_code'])}"
    why = ", because it ran out of memory" if data["cause"] == "oom" else ""
    what = "lost with its node" if data["cause"] == "lost" else f"exited{code}"
    sentence = f"{what} after {format_duration(int(data['ran_seconds'] * 1000))}{why}"
    pieces = int(data["work_in_flight"])
    return sentence + (f", with {pieces} piece{'s' * (pieces > 1)} of work in flight" if pieces else "")


def _begun(data: dict[str, Any]) -> str:
    return "resumed" if data.get("mode") == "pause" else "started"


def _put_to_sleep(data: dict[str, Any]) -> str:
    return "paused" if data.get("mode") == "pause" else "stopped"


def _failed_at_work(data: dict[str, Any]) -> str:
    count = int(data.get("count", 1))
    return f"failed at work: {data['error']}" + (f" ({count} times)" if count > 1 else "")


def format_duration(milliseconds: int) -> str:
    """Return a duration, rounded down, in at most two units.

    Examples: `287 ms`, `4.2 s`, `45 s`, `12 min`, `1 h 5 min`, `3 d 4 h`.
    CLDR, the Unicode data for languages, would write `4.2 sec` and `1 hr`, so no library is used.
    """
    if milliseconds < 1000:
        return f"{int(milliseconds)} ms"
    seconds, minutes, hours = milliseconds // 1000, milliseconds // 60_000, milliseconds // 3_600_000
    if seconds < 60:
        tenths = milliseconds // 100 % 10
        return f"{seconds}.{tenths} s" if tenths else f"{seconds} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return _in_two_units(hours, "h", minutes % 60, "min")
    return _in_two_units(hours // 24, "d", hours % 24, "h")


def _in_two_units(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit} {small} {small_unit}" if small else f"{large} {large_unit}"
