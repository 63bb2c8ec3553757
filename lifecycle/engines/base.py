"""What an engine does, and what it says of an instance."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lifecycle.engines.labels import Labels
from lifecycle.exceptions import LabelError


@dataclass(frozen=True)
class ListedInstance:
    """One instance as a list shows it: cheap, and not enough to start or probe it."""

    name: str
    #: What the engine calls it; a container made anew under the same name has another.
    id: str
    running: bool
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Inspection:
    """One instance as an inspection shows it."""

    name: str
    id: str
    running: bool
    #: Names what ran last; a real start, and nothing else, makes a new one. Empty: it never ran.
    incarnation: str
    #: Read labels; or what is wrong with them.
    labels: Labels | LabelError
    #: Where its port is reached from here; None: it has no port, or no address while it does not run.
    address: tuple[str, int] | None = None
    exit_code: int | None = None
    oom: bool = False
    #: What its HEALTHCHECK says: "starting", "healthy", "unhealthy"; empty: it has none.
    health: str = ""
    #: Where in its output its next run begins; opaque, for `Engine.output`.
    output_mark: str = ""
    warnings: tuple[str, ...] = field(default=())

    def settings(self) -> Labels:
        """Raises LabelError where the labels cannot be read."""
        if isinstance(self.labels, LabelError):
            raise self.labels
        return self.labels


class Engine(ABC):
    """Runs instances. Calls block and may be made from any thread.

    Any call may raise EngineUnreachable: it did not answer, and what became of the call is not known.
    """

    #: As in DORMOUSE_ENGINE.
    name: str

    @abstractmethod
    def instances(self) -> list[ListedInstance]:
        """Every instance that opted in, in a constant number of calls."""

    @abstractmethod
    def inspect(self, name: str) -> Inspection:
        """What is true of it now; waits while a start of it hangs. Raises Missing, also for one that did not opt in."""

    @abstractmethod
    def start(self, name: str) -> None:
        """Returns when it runs, which is not yet ready. Raises StartRejected or Missing."""

    @abstractmethod
    def stop(self, name: str, grace_seconds: float) -> None:
        """Returns when it does not run any more; no error where it never did. Raises Missing."""

    @abstractmethod
    def output(self, name: str, lines: int, mark: str = "") -> str:
        """The last lines that its latest run wrote, both streams; `mark` is of a sighting before that run.

        Without a mark what it wrote in its first instant may be missing. Raises Missing.
        """

    def watch_changes(self) -> Iterator[str] | None:
        """Names of instances, as something happens to them from now on; ends with the connection.

        None: this engine does not tell, and is only asked.
        """
        return None
