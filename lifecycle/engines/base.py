"""The interface of an engine: what it does, and what it says of an instance."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lifecycle.engines.labels import Labels
from lifecycle.exceptions import LabelError


@dataclass(frozen=True)
class ListedInstance:
    """One instance in a list. A list is cheap, but not enough to start or probe an instance."""

    name: str
    #: The engine's id. A container that was made again under the same name has another id.
    id: str
    running: bool
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Inspection:
    """Everything that the engine says of one instance."""

    name: str
    running: bool
    #: Names what the engine ran last. It changes with a real start, and with nothing else. Empty: it never ran.
    incarnation: str
    #: The labels that were read, or what is wrong with them.
    labels: Labels | LabelError
    #: The host and port at which its port is reached from here. None: it has no port, or does not run.
    address: tuple[str, int] | None = None
    exit_code: int | None = None
    #: Whether it was killed because it ran out of memory.
    oom: bool = False
    #: What its HEALTHCHECK says: "starting", "healthy" or "unhealthy". Empty: it has none.
    health: str = ""
    #: Marks where in its output the next run begins. Only `Engine.output` understands it.
    output_mark: str = ""
    warnings: tuple[str, ...] = field(default=())

    def settings(self) -> Labels:
        """Return the labels. Raises LabelError if they cannot be read."""
        if isinstance(self.labels, LabelError):
            raise self.labels
        return self.labels


class Engine(ABC):
    """Runs instances. Its methods block, and any thread may call them.

    Every method may raise EngineUnreachable: the engine did not answer, and what became of the call is not known.
    """

    #: As in DORMOUSE_ENGINE.
    name: str

    @abstractmethod
    def instances(self) -> list[ListedInstance]:
        """Return every instance that opted in, with a constant number of requests to the engine."""

    @abstractmethod
    def inspect(self, name: str) -> Inspection:
        """Return what is true of the instance now. While its start hangs, this waits.

        Raises Missing if there is no such instance, or it did not opt in.
        """

    @abstractmethod
    def start(self, name: str) -> None:
        """Start the instance, and return when it runs. It need not be ready then. Raises StartRejected or Missing."""

    @abstractmethod
    def stop(self, name: str, grace_seconds: float) -> None:
        """Stop the instance, and return when it does not run any more. Kill it after `grace_seconds`.

        If it does not run, this does nothing. Raises Missing.
        """

    @abstractmethod
    def output(self, name: str, lines: int, mark: str = "") -> str:
        """Return the last lines that its latest run wrote to both streams.

        `mark` is the `output_mark` of an inspection before that run. Without it, what the run wrote in its first
        instant may be missing. Raises Missing.
        """

    def watch_changes(self) -> Iterator[str] | None:
        """Yield the names of instances when something happens to them, until the connection ends.

        Return None if this engine has no events.
        """
        return None
