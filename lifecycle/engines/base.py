"""The interface of an engine: what it does, what it says of an instance, and what its answers mean.

Every answer belongs to one `Outcome`: a call returns DONE or ALREADY_SO, or raises the `EngineError` of another one.
"""

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto

from lifecycle.engines.labels import PREFIX, Labels
from lifecycle.exceptions import LabelError, Outcome

__all__ = ["Address", "Engine", "Inspection", "ListedInstance", "Outcome", "Phase"]

#: The kinds of marks: of the installation that manages the instances, and of one that found that and leaves them alone.
OWNER, REFUSED = "mark", "refused"

#: A host and a port.
Address = tuple[str, int]


class Phase(StrEnum):
    """The state of an instance according to its engine. Work can be sent to it in one of these alone: RUNNING.

    What its HEALTHCHECK says is not a phase. It is `Inspection.health`.
    """

    #: It has never run.
    CREATED = auto()
    RUNNING = auto()
    #: The engine is about to run it, and may yet fail to. A swarm looks for a node, or pulls the image.
    STARTING = auto()
    #: Its processes are frozen. They cannot answer, and are in memory.
    PAUSED = auto()
    #: It has ended, and the engine starts it again by itself after a pause.
    RESTARTING = auto()
    #: It has ended.
    EXITED = auto()
    #: The engine is about to remove it. Another one may get its name in a moment.
    REMOVING = auto()
    #: The engine could not remove it. It can never run again.
    DEAD = auto()


@dataclass(frozen=True)
class ListedInstance:
    """One instance in a list. A list is cheap, but not enough to start or probe an instance."""

    name: str
    #: The engine's id. A container that was made again under the same name has another id.
    id: str
    phase: Phase
    labels: Mapping[str, str]

    @property
    def running(self) -> bool:
        """True if work could be sent to it."""
        return self.phase is Phase.RUNNING


@dataclass(frozen=True)
class Inspection:
    """Everything that the engine says of one instance."""

    name: str
    phase: Phase
    #: Names what the engine ran last. It changes with a real start, and with nothing else. Empty: it never ran, or the
    #: engine forgets what has ended, as a swarm does.
    incarnation: str
    #: The labels that were read, or what is wrong with them.
    labels: Labels | LabelError
    #: Where its port may be reached from here, the likeliest first. Empty: it has no port, or does not run.
    addresses: tuple[Address, ...] = ()
    #: If several tasks of one service run: the addresses of each, by which it alone is reached.
    tasks: tuple[tuple[Address, ...], ...] = ()
    #: From where it is asked, to be read after "asked". Empty: from this machine.
    asked_from: str = ""
    #: With what its latest run ended. None: it runs, it never ran, or the engine does not know.
    exit_code: int | None = None
    #: Whether it was killed because it ran out of memory.
    oom: bool = False
    #: Whether the engine may begin to run it at any moment, as of a service that has no task yet.
    may_begin: bool = False
    #: Why the engine itself took away what ran, to be read after "because". Empty: it did not, or that is not known.
    taken_away: str = ""
    #: Whether the machine on which it ran is lost. It may run on there, but the engine does not count it any more.
    lost: bool = False
    #: What its HEALTHCHECK says: "starting", "healthy" or "unhealthy". Empty: it has none.
    health: str = ""
    #: Marks where in its output the next run begins. Only `Engine.output` understands it.
    output_mark: str = ""
    #: For how long its latest run lasted. None: it runs, or the engine does not know.
    ran_seconds: float | None = None
    #: The signal with which the engine stops it.
    stop_signal: int = signal.SIGTERM
    warnings: tuple[str, ...] = field(default=())

    @property
    def running(self) -> bool:
        """True if work can be sent to it."""
        return self.phase is Phase.RUNNING

    @property
    def is_alive(self) -> bool:
        """True if its latest run goes on, perhaps frozen."""
        return self.phase in (Phase.RUNNING, Phase.PAUSED)

    @property
    def is_resumable(self) -> bool:
        """True if it is paused, and its label says that it sleeps so."""
        return self.phase is Phase.PAUSED and isinstance(self.labels, Labels) and self.labels.sleep == "pause"

    @property
    def needs(self) -> list[str]:
        """The names of the instances that it needs. Empty: none, or its labels cannot be read."""
        return list(self.labels.needs) if isinstance(self.labels, Labels) else []

    @property
    def ended(self) -> bool:
        """True if it does not run, and will not unless it is started."""
        return self.phase in (Phase.CREATED, Phase.EXITED, Phase.REMOVING, Phase.DEAD)

    @property
    def address(self) -> Address | None:
        """The likeliest address. After a probe that succeeded it is the only one, because that one answered."""
        return self.addresses[0] if self.addresses else None

    def at(self, address: Address | None) -> "Inspection | None":
        """Return the inspection with this address alone, or None if the instance is not reached there any more.

        An instance that was probed without an address is reached at any.
        """
        if address is None:
            return self
        return replace(self, addresses=(address,)) if address in self.addresses else None

    def settings(self) -> Labels:
        """Return the labels. Raises LabelError if they cannot be read."""
        if isinstance(self.labels, LabelError):
            raise self.labels
        return self.labels


@dataclass(frozen=True)
class HeardEnd:
    """The signals and the stop that an engine's events told before the end of an incarnation."""

    #: The signals that clients of the engine made it send to that incarnation.
    signals: frozenset[int] = frozenset()
    #: None: the events did not say.
    exit_code: int | None = None


def container_of(incarnation: str) -> str:
    """Return the id of the container of an incarnation (`id@StartedAt`), or an empty text if it names none."""
    id, at, _ = incarnation.partition("@")
    return id if at else ""


def are_of_two_containers(one: str, other: str) -> bool:
    """Return whether two incarnations are of two containers. Those that name none are not."""
    one_id, other_id = container_of(one), container_of(other)
    return bool(one_id and other_id) and one_id != other_id


class Engine(ABC):
    """Runs instances. Its methods block, and any thread may call them.

    Every method may raise these errors:

    - EngineUnreachable: the engine did not answer. EngineNonsense: its answer cannot be read. In both cases it is not
      known what became of the call.
    - EngineBusy: it refused for now, and the same call may succeed in a moment.
    - EngineRefused: it refused for good.
    """

    #: As in DORMOUSE_ENGINE.
    name: str
    #: What stands before the key of a setting of an instance, for example `dormouse.port`.
    key_prefix = PREFIX
    #: Whether it keeps a mark of the installation that manages its instances. False: no other one can reach them.
    keeps_mark = False

    @abstractmethod
    def instances(self) -> list[ListedInstance]:
        """Return every instance that opted in, with a constant number of requests to the engine."""

    @abstractmethod
    def inspect(self, name: str) -> Inspection:
        """Return what is true of the instance now. While its start hangs, this waits.

        Raises Missing if there is no such instance, or it did not opt in.
        """

    @abstractmethod
    def start(self, name: str) -> Outcome:
        """Start the instance, and return when it runs. It need not be ready then.

        Return ALREADY_SO if it ran already. Raises StartRejected, also if it is paused, and Missing only if there is no
        such instance: what the instance itself needs and does not find, for example a network, is a StartRejected.
        """

    @abstractmethod
    def stop(self, name: str, grace_seconds: float) -> Outcome:
        """Stop the instance, also a paused one, and return when it does not run any more. Kill it after the grace.

        An engine that would start it again by itself does not do so after this. Return ALREADY_SO if it did not run.
        Return UNCONFIRMED if what ran was lost, and perhaps runs on. Raises Missing.
        """

    @abstractmethod
    def pause(self, name: str) -> Outcome:
        """Freeze all processes of a running instance, and return when they are frozen.

        Return ALREADY_SO if it was paused. Raises EngineRefused, also if it does not run, and Missing.
        """

    @abstractmethod
    def resume(self, name: str) -> Outcome:
        """Let a paused instance go on. Return ALREADY_SO if it was not paused: it runs, or it has ended.

        Raises Missing.
        """

    @abstractmethod
    def output(self, name: str, lines: int, mark: str = "") -> str:
        """Return the last lines that its latest run wrote to both streams.

        `mark` is the `output_mark` of an inspection before that run. Without it, what the run wrote in its first
        instant may be missing. Raises Missing.
        """

    def check_listener(self, seen: Inspection) -> None:
        """Raise StartRejected if another program than the instance may get the work that is sent to its address.

        Asked once, when the readiness probe has succeeded. A container has addresses of its own.
        """
        return

    def near_misses(self) -> list[str]:
        """Return a sentence for each that did not opt in, and was nearly labelled so. By one request to the engine."""
        return []

    def heard_end(self, incarnation: str) -> HeardEnd | None:
        """Return what this object has heard, by `watch_changes` or an inspection, of the end of an incarnation.

        Return None if it has not watched that end, or has not heard it yet. Asks nothing, and raises no EngineError.
        """
        return None

    def mark(self, ours: Mapping[str, str], kind: str = OWNER) -> Mapping[str, str]:
        """Return the labels of the mark of this engine and scope. If there is none, make it with the labels `ours`.

        Of several installations that call this at once, one makes the mark. Only for an engine that `keeps_mark`.
        """
        raise NotImplementedError

    def find_mark(self, kind: str = OWNER) -> Mapping[str, str] | None:
        """Return the labels of the mark, or None if there is none. Only for an engine that `keeps_mark`."""
        raise NotImplementedError

    def remove_mark(self, kind: str = OWNER) -> None:
        """Remove the mark. Do nothing if there is none. Only for an engine that `keeps_mark`."""
        raise NotImplementedError

    def watch_changes(self) -> Iterator[str] | None:
        """Yield the names of instances when something happens to them, until the connection ends.

        Return None if this engine has no events.
        """
        return None
