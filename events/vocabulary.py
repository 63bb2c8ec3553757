"""What each event type is called, and how an event reads as a sentence.

A type that is not listed here needs nothing: it gets a generic icon, and its own name as the words.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from events.models import EventLog


@dataclass(frozen=True)
class Word:
    """How an event type appears: its title, its icon, and the sentence after the instance's name."""

    title: str
    icon: str
    rest: Callable[[dict[str, Any]], str] | None = None
    failure: bool = False


WORDS = {
    "container.lazy_started": Word("Started", "play", lambda data: f"started in {duration_ms(data['latency_ms'])}"),
    "container.lazy_stopped": Word(
        "Stopped", "moon", lambda data: f"stopped after {duration_ms(data['idle_seconds'] * 1000)} idle"
    ),
    "container.lazy_start_failed": Word(
        "Failed to start", "alert", lambda data: f"failed to start: {data['error']}", failure=True
    ),
}

#: Why a start failed, in words. An unknown cause is shown as it is.
CAUSES = {
    "engine_unreachable": "the engine could not be reached",
    "missing": "the engine no longer has it",
    "image_missing": "its image is missing",
    "port_conflict": "its port is taken",
    "start_rejected": "the engine refused to start it",
    "exited": "it exited before it was ready",
    "oom": "it ran out of memory",
    "not_ready": "it was not ready in time",
    "interrupted": "the start was interrupted",
}

#: The types of which every event is a failure.
FAILURES = frozenset(type for type, word in WORDS.items() if word.failure)


def word(type: str) -> Word:
    """`deploy.finished` is called "Deploy finished"."""
    known = WORDS.get(type)
    if known:
        return known
    title = type.replace(".", " ").replace("_", " ").strip() or type
    return Word(title[0].upper() + title[1:], "dot")


def rest_of_sentence(event: EventLog) -> str | None:
    """What follows the instance's name; None where the type has no sentence of its own, or the data do not fit it."""
    rest = word(event.type).rest
    try:
        return rest(event.data) if rest and event.instance else None
    except (KeyError, TypeError, ValueError):
        return None


def sentence(event: EventLog) -> str:
    """`reviewer-default started in 287 ms`; for other types `Deploy finished · reviewer-default`."""
    rest = rest_of_sentence(event)
    if rest is not None:
        return f"{event.instance} {rest}"
    title = word(event.type).title
    return f"{title} · {event.instance}" if event.instance else title


def duration_ms(milliseconds: int) -> str:
    """Rounded down, in at most two units: `287 ms`, `4.2 s`, `45 s`, `12 min`, `1 h 5 min`, `3 d 4 h`."""
    if milliseconds < 1000:
        return f"{int(milliseconds)} ms"
    seconds, minutes, hours = milliseconds // 1000, milliseconds // 60_000, milliseconds // 3_600_000
    if seconds < 60:
        tenths = milliseconds // 100 % 10
        return f"{seconds}.{tenths} s" if tenths else f"{seconds} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return _two_units(hours, "h", minutes % 60, "min")
    return _two_units(hours // 24, "d", hours % 24, "h")


def _two_units(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit} {small} {small_unit}" if small else f"{large} {large_unit}"
