"""What can go wrong between a dispatch and its agent.

Each error carries its data, the HTTP status that the API answers with, and one sentence for a person. No code parses a
message.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from http import HTTPStatus
from typing import Any, ClassVar

from access.permissions import CONTROL


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
    DEPENDENCY = "dependency"
    UNSCHEDULABLE = "unschedulable"


class Outcome(StrEnum):
    """The meaning of an engine's answer to a call. Every answer of every engine has one of these.

    The outcomes of a call that did not do what was asked are errors: `EngineError` and its subclasses.
    """

    #: It did what was asked.
    DONE = auto()
    #: There was nothing to do: what was to be stopped did not run, or what was to be started did.
    ALREADY_SO = auto()
    #: It did what it could: the machine on which the instance ran is lost, and it may run on there.
    UNCONFIRMED = auto()
    #: The engine has no such instance.
    NOT_THERE = auto()
    #: It did nothing, and will not do it however often it is asked, until a person changes something.
    REFUSED = auto()
    #: It did nothing, because something else is under way. The same call may succeed in a moment.
    REFUSED_FOR_NOW = auto()
    #: It did not answer, or something between here and the engine answered. What became of the call is not known.
    NO_ANSWER = auto()
    #: It answered, and the answer cannot be read. What became of the call is not known.
    NONSENSE = auto()


#: Limits of a failure's texts, in characters. In JSON a character may take six bytes.
MAX_ERROR_CHARACTERS = 1_000
MAX_LOG_TAIL_CHARACTERS = 8_000


def storable(text: str) -> str:
    """Return the text without NUL, which PostgreSQL stores in no row: the commit would never succeed."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def storable_output(text: str) -> str:
    """Return the end of an output, as an event may hold it."""
    text = storable(text)
    return text if len(text) <= MAX_LOG_TAIL_CHARACTERS else f"…{text[-MAX_LOG_TAIL_CHARACTERS:]}"


class LifecycleError(Exception):
    """Dormouse cannot do what was asked."""

    status: ClassVar[HTTPStatus]
    #: In the header `Dormouse-Error`.
    code: str

    def members(self) -> dict[str, Any]:
        """Return what the API's answer says beside the sentence, for a program."""
        return {}


@dataclass(eq=False)
class Neighbour(LifecycleError):
    """Another installation manages the instances of this engine and scope. `owner` is what its mark says."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "neighbour"
    owner: str
    why: str = "Another Dormouse, with another database,"

    def __str__(self) -> str:
        return (
            f"{self.why} manages the agents of this engine and scope. This one touches none of them. "
            "Its page says which one that is, and what to do."
        )

    def explain(self) -> str:
        """Return which installation it is and what to do, for those who may see everything."""
        return (
            f"{self.why} manages the agents of this engine and scope: {self.owner}. This one touches none of them. "
            "Give one of them a scope of its own (DORMOUSE_SCOPE and the label dormouse.scope). If the other one is "
            "gone, or is to stop managing them, run here: manage.py take_over"
        )


@dataclass(eq=False)
class UnknownInstance(LifecycleError):
    """No instance of that name is known, and the engine has none. `hint` says how an instance takes part."""

    status = HTTPStatus.NOT_FOUND
    code = "unknown"
    instance: str
    hint: str = ""

    def __str__(self) -> str:
        return f"No instance is called {self.instance}. {self.hint}".strip()


@dataclass(eq=False)
class LabelError(LifecycleError):
    """A label cannot be read, or the container was made in a way that Dormouse cannot handle."""

    status = HTTPStatus.CONFLICT
    code = "labels"
    instance: str
    label: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.instance}: {self.label}={self.value!r} {self.reason}"

    def members(self) -> dict[str, Any]:
        """Return the instance, the label and its value."""
        return {"instance": self.instance, "label": self.label, "value": self.value}


@dataclass(eq=False)
class EngineError(LifecycleError):
    """The engine did not do what was asked. `outcome` says which kind of answer that was."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "engine_unreachable"
    outcome: ClassVar[Outcome]
    error: str

    def __str__(self) -> str:
        return self.error


@dataclass(eq=False)
class EngineUnreachable(EngineError):
    """The engine did not answer. If `was_asked`, the call may still have taken effect."""

    outcome = Outcome.NO_ANSWER
    was_asked: bool = True

    def members(self) -> dict[str, Any]:
        """Return the cause, as for a failed start."""
        return {"cause": Cause.ENGINE_UNREACHABLE, "error": self.error}


@dataclass(eq=False)
class EngineLeaderless(EngineUnreachable):
    """The engine says that it has no leader. It changes nothing until it has one again, and what runs goes on."""


@dataclass(eq=False)
class EngineNonsense(EngineUnreachable):
    """The engine's answer cannot be read, so it is worth as little as none."""

    outcome = Outcome.NONSENSE


@dataclass(eq=False)
class EngineBusy(EngineUnreachable):
    """The engine refused for now, and did nothing. Ask again in a moment."""

    outcome = Outcome.REFUSED_FOR_NOW
    was_asked: bool = False


@dataclass(eq=False)
class EngineRefused(EngineError):
    """The engine refused for good, and did nothing. A refusal ends a claim."""

    outcome = Outcome.REFUSED

    def members(self) -> dict[str, Any]:
        """Return the engine's reason, for a program."""
        return {"error": self.error}


@dataclass(eq=False)
class StartRejected(EngineRefused):
    """The engine refused to start the instance, and nothing was started."""

    cause: Cause = Cause.START_REJECTED
    exit_code: int | None = None


@dataclass(eq=False)
class Missing(EngineError):
    """The engine does not have the instance. `error` is its name, `words` are what the engine said."""

    outcome = Outcome.NOT_THERE
    words: str = ""
    #: What a person can do to have it again.
    remedy: str = "create it again under this name, with the label dormouse.enable=true"

    @property
    def instance(self) -> str:
        """The name that the engine does not know."""
        return self.error

    def __str__(self) -> str:
        return f"the engine has no {self.instance}"


@dataclass(eq=False)
class StartFailed(LifecycleError):
    """A run ended before the instance was ready. `error` continues the sentence "NAME failed to start: "."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "start_failed"
    instance: str
    cause: Cause
    error: str
    exit_code: int | None = None
    log_tail: str = ""

    def __post_init__(self) -> None:
        """Shorten what a container or an engine said, because an event holds at most 64 KiB, and choose the code."""
        if self.cause == Cause.ENGINE_UNREACHABLE:
            self.code = EngineUnreachable.code
        self.error, self.log_tail = storable(self.error), storable_output(self.log_tail)
        if len(self.error) > MAX_ERROR_CHARACTERS:
            self.error = f"{self.error[:MAX_ERROR_CHARACTERS]}…"

    def __str__(self) -> str:
        return f"{self.instance} failed to start: {self.error}"

    @classmethod
    def from_data(cls, instance: str, data: Mapping[str, Any]) -> "StartFailed":
        """Return the failure that `data()` described."""
        return cls(instance, Cause(data["cause"]), data["error"], data.get("exit_code"), data.get("log_tail", ""))

    def data(self) -> dict[str, Any]:
        """Return what the event and the instance's row keep, without what is not known."""
        facts = {"error": self.error, "cause": str(self.cause), "exit_code": self.exit_code, "log_tail": self.log_tail}
        return {name: value for name, value in facts.items() if value not in (None, "")}

    def members(self) -> dict[str, Any]:
        """Return the instance and the facts, without the output, which only readers of the events may see."""
        return {"instance": self.instance} | {key: value for key, value in self.data().items() if key != "log_tail"}


@dataclass(eq=False)
class AgentBrokeOff(LifecycleError):
    """The agent did not answer, or its answer ended too early."""

    status = HTTPStatus.BAD_GATEWAY
    code = "agent_unreachable"
    instance: str
    error: str

    def __str__(self) -> str:
        return f"{self.instance} broke off: {self.error}"


@dataclass(eq=False)
class AgentTooSlow(LifecycleError):
    """The agent did not begin its answer within its dispatch-timeout."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    code = "too_slow"
    instance: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.instance} did not begin its answer within {self.seconds:g} s"


@dataclass(eq=False)
class Disabled(LifecycleError):
    """A person or a program has disabled the instance: nothing is dispatched to it until it is enabled."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "disabled"
    instance: str
    reason: str
    by: str

    def __str__(self) -> str:
        by = f" by {self.by}" if self.by else ""
        return f"{self.instance} is disabled{by}" + (f": {self.reason}" if self.reason else "")

    def members(self) -> dict[str, Any]:
        """Return the instance and the reason."""
        return {"instance": self.instance, "reason": self.reason}


@dataclass(eq=False)
class WorkInFlight(LifecycleError):
    """The instance was to be put to sleep, and has work in flight."""

    status = HTTPStatus.CONFLICT
    code = "work_in_flight"
    instance: str
    count: int

    def __str__(self) -> str:
        pieces = "1 piece" if self.count == 1 else f"{self.count} pieces"
        return f"{self.instance} has {pieces} of work in flight. With force=true it is broken off."

    def members(self) -> dict[str, Any]:
        """Return the instance and how many pieces of work are in flight."""
        return {"instance": self.instance, "work_in_flight": self.count}


@dataclass(eq=False)
class NeededBy(LifecycleError):
    """The instance was to be put to sleep, and awake instances need it."""

    status = HTTPStatus.CONFLICT
    code = "needed"
    instance: str
    dependents: list[str]

    def __str__(self) -> str:
        return f"{self.instance} is needed by {', '.join(self.dependents)}. Put that to sleep first."

    def members(self) -> dict[str, Any]:
        """Return the instance, and those that need it."""
        return {"instance": self.instance, "needed_by": self.dependents}


@dataclass(eq=False)
class NotReady(LifecycleError):
    """The instance was to be kept awake, and is not awake."""

    status = HTTPStatus.CONFLICT
    code = "not_ready"
    instance: str
    state: str

    def __str__(self) -> str:
        return f"{self.instance} is {self.state}. Only an agent that is ready can be kept awake: wake it first."

    def members(self) -> dict[str, Any]:
        """Return the instance and its state."""
        return {"instance": self.instance, "state": self.state}


@dataclass(eq=False)
class OthersDecision(LifecycleError):
    """Another caller decided it, and this one may not overrule that."""

    status = HTTPStatus.FORBIDDEN
    code = "forbidden"
    instance: str
    by: str

    def __str__(self) -> str:
        who = self.by or "another caller"
        return f"{self.instance} is kept awake by {who}. To end that needs the permission {CONTROL}."


@dataclass(eq=False)
class StopFailed(LifecycleError):
    """The engine refused to stop the instance, which is ready and takes work."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "stop_failed"
    instance: str
    error: str

    def __str__(self) -> str:
        return f"{self.instance} could not be stopped: {self.error}"

    def members(self) -> dict[str, Any]:
        """Return the instance and the engine's reason."""
        return {"instance": self.instance, "error": self.error}


class ClaimLost(LifecycleError):
    """Another worker has taken this transition over, and reports the outcome."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "start_failed"
