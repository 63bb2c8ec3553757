"""What can go wrong between a dispatch and its agent. Each error carries its data; nobody parses a message."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Cause(StrEnum):
    """Why a start failed."""

    ENGINE_UNREACHABLE = "engine_unreachable"
    MISSING = "missing"
    IMAGE_MISSING = "image_missing"
    PORT_CONFLICT = "port_conflict"
    START_REJECTED = "start_rejected"
    EXITED = "exited"
    OOM = "oom"
    NOT_READY = "not_ready"
    INTERRUPTED = "interrupted"


#: Characters; in JSON one of them may take six bytes.
MAX_ERROR = 1_000
MAX_LOG_TAIL = 8_000


class LifecycleError(Exception):
    """Dormouse cannot do that."""


@dataclass(eq=False)
class UnknownInstance(LifecycleError):
    """No instance of that name was ever heard of."""

    instance: str

    def __str__(self) -> str:
        return f"No instance is called {self.instance}. A container takes part with the label dormouse.enable=true."


@dataclass(eq=False)
class LabelError(LifecycleError):
    """A label that cannot be read, or a container that Dormouse cannot handle as it was made."""

    instance: str
    label: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.instance}: {self.label}={self.value!r} {self.reason}"


@dataclass(eq=False)
class EngineUnreachable(LifecycleError):
    """The engine did not answer. Where `was_asked`, it may have done all the same what it was asked."""

    error: str
    was_asked: bool = True

    def __str__(self) -> str:
        return self.error


@dataclass(eq=False)
class Missing(LifecycleError):
    """The engine has no such instance (any more)."""

    instance: str

    def __str__(self) -> str:
        return f"the engine has no {self.instance}"


@dataclass(eq=False)
class StartRejected(LifecycleError):
    """The engine refused to start it: nothing was started."""

    cause: Cause
    error: str
    exit_code: int | None = None

    def __str__(self) -> str:
        return self.error


@dataclass(eq=False)
class StartFailed(LifecycleError):
    """A run that ended before it was ready. `error` is one sentence for a person, after "failed to start: "."""

    instance: str
    cause: Cause
    error: str
    exit_code: int | None = None
    log_tail: str = ""

    def __post_init__(self) -> None:
        """Cuts what a container or an engine said: an event has room for 64 KiB, and a reader for less.

        Without NUL, too, which PostgreSQL keeps in no row: such a failure would never be settled.
        """
        self.error, self.log_tail = (
            text.replace("\0", "\N{REPLACEMENT CHARACTER}") for text in (self.error, self.log_tail)
        )
        if len(self.error) > MAX_ERROR:
            self.error = f"{self.error[:MAX_ERROR]}…"
        if len(self.log_tail) > MAX_LOG_TAIL:
            self.log_tail = f"…{self.log_tail[-MAX_LOG_TAIL:]}"

    def __str__(self) -> str:
        return f"{self.instance} failed to start: {self.error}"

    @classmethod
    def from_data(cls, instance: str, data: Mapping[str, Any]) -> "StartFailed":
        """The failure that `data` was kept of."""
        return cls(instance, Cause(data["cause"]), data["error"], data.get("exit_code"), data.get("log_tail", ""))

    def data(self) -> dict[str, Any]:
        """What the event and the instance's row keep of it: known facts only."""
        facts = {"error": self.error, "cause": str(self.cause), "exit_code": self.exit_code, "log_tail": self.log_tail}
        return {name: value for name, value in facts.items() if value not in (None, "")}


class ClaimLost(LifecycleError):
    """Another worker has taken this transition over; whatever was found out about it is theirs to say."""
