"""Every label: its type, its default and its meaning. The README's table is held against this file.

Durations are written as in Go (`500ms`, `1h30m`), and `d` stands for days.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import SequenceMatcher
from typing import Any

from lifecycle.exceptions import LabelError

PREFIX = "dormouse."
ENABLE = f"{PREFIX}enable"
#: What Go reads as a boolean (strconv.ParseBool), as Docker does.
TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
#: How much a key must be like `dormouse.enable` to count as a misspelling.
CLOSE = 0.85
READY = ("http", "tcp", "health", "running")
#: The ones that ask the agent at its address.
PROBED = ("http", "tcp")
SLEEP = ("stop", "pause")
#: How often Docker checks the health of a container whose HEALTHCHECK does not say.
DOCKER_HEALTH_INTERVAL = timedelta(seconds=30)
MAX_DURATION = timedelta(days=36500)

_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h|d)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> timedelta:
    """Return the duration that `text` writes, for example `1h30m`.

    Raises ValueError with the rest of a sentence that begins with the text: "is negative".
    """
    if text == "0":
        return timedelta(0)
    if text.startswith("-"):
        raise ValueError("is negative")
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("is no duration: write it as 500ms, 30s, 15m, 1h30m or 2d")
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    if seconds > MAX_DURATION.total_seconds():
        raise ValueError("is longer than a hundred years")
    return timedelta(seconds=seconds)


def parse_positive_duration(text: str) -> timedelta:
    """Return a duration that is longer than 0. Raises ValueError."""
    value = parse_duration(text)
    if not value:
        raise ValueError("must be longer than 0")
    return value


def parse_optional_duration(text: str) -> timedelta | None:
    """Return a duration, or None for 0. Raises ValueError."""
    return parse_duration(text) or None


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`. The parser raises ValueError."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"is no whole number from {low} to {high}")
        return int(text)

    return parse


def parse_path(text: str) -> str:
    """Return a path of a URL. Raises ValueError."""
    if not re.fullmatch(r"/[!-~]*", text):
        raise ValueError("is no path: it begins with / and has no blanks")
    return text


def one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    """Return a parser of the given words. The parser raises ValueError."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return parse


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names of instances that stand between commas, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


@dataclass(frozen=True)
class Label:
    """One label: its key without the prefix, its parser, its default as it is written, and its meaning."""

    key: str
    parse: Callable[[str], Any]
    default: str
    meaning: str
    #: What the README's table says if the default is not fixed.
    default_shown: str = ""


LABELS = (
    Label(
        "port",
        whole_number(1, 65535),
        "",
        "where the agent listens, for the probe and for dispatch",
        "the one exposed port",
    ),
    Label(
        "ready",
        one_of(READY),
        "",
        "what ready means: `http`, `tcp`, `health` (its HEALTHCHECK) or `running`",
        "`http` with a port, else `health` with a HEALTHCHECK, else `running`",
    ),
    Label(
        "ready-path",
        parse_path,
        "",
        "what `http` asks: 2xx or 3xx is ready. Without it `/`, and any HTTP answer is ready",
    ),
    Label(
        "start-timeout",
        parse_positive_duration,
        "30s",
        "from the start to ready; with `health` it must exceed the check's interval",
    ),
    Label("stop-timeout", parse_duration, "10s", "grace before the engine kills"),
    Label("idle-timeout", parse_optional_duration, "15m", "without work for this long: asleep. `0`: never"),
    Label(
        "sleep",
        one_of(SLEEP),
        "stop",
        "how it is put to sleep: `stop`, or `pause`: it is frozen, keeps its memory, and wakes in milliseconds",
    ),
    Label("dispatch-path", parse_path, "/", "where dispatched work is sent"),
    Label(
        "dispatch-timeout", parse_optional_duration, "0", "how long the agent may take to begin its answer", "`0`, none"
    ),
    Label(
        "needs",
        parse_names,
        "",
        "names, with commas: agents that must be ready before this one starts, and stay awake with it",
    ),
    Label(
        "network",
        str,
        "",
        "the one of its networks on which the agent is reached",
        "where its port is published, else each network is tried",
    ),
    Label(
        "scope",
        str,
        "",
        "which Dormouse this container belongs to: the one whose `DORMOUSE_SCOPE` is the same",
        "none: a Dormouse without a scope",
    ),
    Label("replicas", whole_number(1, 1000), "1", "in a swarm: how many tasks a service has while it is awake"),
    Label("log-tail", whole_number(0, 1000), "20", "lines of output kept with a failure; `0` for none"),
)
BY_KEY = {label.key: label for label in LABELS}


def default_of(key: str) -> Any:
    """Return the parsed default of the label `key`."""
    return BY_KEY[key].parse(BY_KEY[key].default)


@dataclass(frozen=True)
class Labels:
    """The labels of one instance, parsed. A timeout of None never ends."""

    port: int | None
    ready: str
    ready_path: str | None
    start_timeout: timedelta
    stop_timeout: timedelta
    idle_timeout: timedelta | None
    dispatch_path: str
    dispatch_timeout: timedelta | None
    log_tail: int
    network: str | None = None
    sleep: str = "stop"
    scope: str | None = None
    needs: tuple[str, ...] = ()
    replicas: int = 1


def read(
    instance: str,
    labels: Mapping[str, str],
    *,
    exposed: tuple[int, ...] = (),
    health_interval: timedelta | None = None,
) -> Labels:
    """Return the labels of `instance`, parsed.

    Args:
        instance: the name of the instance, for errors.
        labels: by key with the prefix.
        exposed: the ports that its image exposes.
        health_interval: how often its HEALTHCHECK runs. None: it has none.

    Raises:
        LabelError: a label cannot be read. The error names the instance, the label and the value.
    """
    values = {label.key.replace("-", "_"): _parse_value(instance, label, labels) for label in LABELS}
    values["needs"] = values["needs"] or ()
    values["port"] = values["port"] or _only_port(instance, exposed)
    values["ready"] = values["ready"] or (
        "http" if values["port"] else "running" if health_interval is None else "health"
    )
    found = Labels(**values)
    _check_ready(instance, found, health_interval)
    return found


def idle_timeout(labels: Mapping[str, str]) -> timedelta | None:
    """Return the idle timeout alone, or None if it cannot be read. A sweep uses this, because it does not inspect."""
    try:
        return parse_optional_duration(labels.get(f"{PREFIX}idle-timeout", BY_KEY["idle-timeout"].default))
    except ValueError:
        return None


def is_enabled(labels: Mapping[str, str]) -> bool:
    """Return whether the instance opted in. Go's booleans count, because compose files write `True`."""
    return labels.get(ENABLE) in TRUE


def is_of_scope(labels: Mapping[str, str], scope: str) -> bool:
    """Return whether the instance belongs to the Dormouse of `scope`. An empty text on both sides is a scope too."""
    return labels.get(f"{PREFIX}scope", "") == scope


def near_miss(labels: Mapping[str, str]) -> str | None:
    """Return what is nearly `dormouse.enable=true`, so that a person sees why the container takes no part, or None."""
    if ENABLE in labels:
        value = labels[ENABLE]
        return None if value in TRUE + FALSE else f"{ENABLE}={value!r} is neither true nor false"
    close = (key for key in labels if SequenceMatcher(None, key.lower(), ENABLE).ratio() >= CLOSE)
    found = next(close, None)
    return f"{found!r} is not {ENABLE!r}" if found else None


def unknown(labels: Mapping[str, str]) -> list[str]:
    """Return the labels that have our prefix and are not ours. Probably they are misspelt."""
    ours = (name for name in labels if name.startswith(PREFIX) and name != ENABLE)
    return sorted(name for name in ours if name.removeprefix(PREFIX) not in BY_KEY)


def _parse_value(instance: str, label: Label, labels: Mapping[str, str]) -> Any:
    name = PREFIX + label.key
    text = labels.get(name)
    if text is None:
        return label.parse(label.default) if label.default else None
    try:
        return label.parse(text.strip())
    except ValueError as error:
        raise LabelError(instance, name, text, str(error)) from None


def _only_port(instance: str, exposed: tuple[int, ...]) -> int | None:
    if len(exposed) > 1:
        several = ", ".join(map(str, sorted(exposed)))
        raise LabelError(instance, f"{PREFIX}port", "", f"is not set, and several ports are exposed: {several}")
    return exposed[0] if exposed else None


def _check_ready(instance: str, found: Labels, health_interval: timedelta | None) -> None:
    if found.ready in ("http", "tcp") and not found.port:
        raise LabelError(instance, f"{PREFIX}ready", found.ready, f"needs a port: set {PREFIX}port")
    if found.ready != "health":
        return
    if health_interval is None:
        raise LabelError(instance, f"{PREFIX}ready", found.ready, "needs a HEALTHCHECK, and the container has none")
    if found.start_timeout <= health_interval:
        timeout = f"{found.start_timeout.total_seconds():g}s"
        reason = f"must exceed the interval of the HEALTHCHECK, {health_interval.total_seconds():g}s"
        raise LabelError(instance, f"{PREFIX}start-timeout", timeout, reason)
