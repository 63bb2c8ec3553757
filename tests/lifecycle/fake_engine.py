"""An engine in memory, for the tests of what is decided about it; it keeps the contract of every engine."""

import signal
import socket
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from lifecycle.engines import labels
from lifecycle.engines.base import OWNER, Engine, HeardEnd, Inspection, ListedInstance, Outcome, Phase
from lifecycle.engines.labels import Labels
from lifecycle.exceptions import EngineRefused, LabelError, Missing, StartRejected


class Program(Enum):
    """The program that an instance runs."""

    SERVES = "serves"
    #: Writes a line and exits with code 3.
    FAILS = "fails"
    MISSING = "missing"
    NOT_EXECUTABLE = "not executable"


REJECTIONS = {
    Program.MISSING: ("its command does not exist", 127),
    Program.NOT_EXECUTABLE: ("its command may not be executed", 126),
}


@dataclass
class Box:
    """One instance of the fake engine; tests change it as they like."""

    name: str
    labels: dict[str, str]
    program: Program = Program.SERVES
    #: The id of the container. It keeps it if it is renamed.
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    running: bool = False
    run: int = 0
    exit_code: int | None = None
    oom: bool = False
    #: A phase in between, which the engine shows instead of running or exited.
    between: Phase | None = None
    #: Whether the engine was asked to run it, and has not begun.
    may_begin: bool = False
    health: str = ""
    output: str = ""
    #: Whether its port is really open while it runs.
    listens: bool = False
    #: By incarnation: what the engine's events said of its end.
    ends: dict[str, HeardEnd] = field(default_factory=dict)
    listener: socket.socket | None = field(default=None, repr=False)

    @property
    def phase(self) -> Phase:
        if self.between:
            return self.between
        return Phase.RUNNING if self.running else Phase.EXITED if self.run else Phase.CREATED

    @property
    def incarnation(self) -> str:
        return f"{self.id}@{self.run}" if self.run else ""

    def begin(self) -> None:
        """A real start; also for what others do."""
        self.run += 1
        self.output = f"this is run {self.run}\n"
        self.running, self.exit_code = True, None
        if self.program is Program.FAILS:
            self.end(3)
        elif self.listens:
            self.listener = socket.create_server(("127.0.0.1", int(self.labels["dormouse.port"])))

    def end(self, code: int, *signals: int) -> None:
        """It ends; `signals` are what clients of the engine sent."""
        self.between = None
        if self.running:
            self.ends[self.incarnation] = HeardEnd(frozenset(signals), code)
        self.running, self.exit_code = False, code
        if self.listener:
            self.listener.close()
            self.listener = None


class FakeEngine(Engine):
    """Tests say what happens in its calls: an error to raise, or a function to call before or after the deed."""

    name = "fake"
    keeps_mark = True

    def __init__(self) -> None:
        self.boxes: dict[str, Box] = {}
        self.ends: dict[str, HeardEnd] = {}
        #: By kind: the labels of its marks.
        self.marks: dict[str, Mapping[str, str]] = {}
        #: Whether its events do not arrive.
        self.is_deaf = False
        #: Every call: ("start", "reviewer-default").
        self.calls: list[tuple[str, str]] = []
        #: By call: what its next ones do before the deed, one each. It may raise.
        self.before: dict[str, list[Callable[[], object]]] = defaultdict(list)
        #: The same, after it.
        self.after: dict[str, list[Callable[[], object]]] = defaultdict(list)

    def add(self, name: str, program: Program = Program.SERVES, *, enabled: bool = True, **keys: str) -> Box:
        """`keys` are labels: `idle_timeout="1m"`."""
        found = {labels.PREFIX + key.replace("_", "-"): value for key, value in keys.items()}
        self.boxes[name] = Box(name, found | ({labels.ENABLE: "true"} if enabled else {}), program, ends=self.ends)
        return self.boxes[name]

    def rename(self, old: str, new: str) -> None:
        """Another name for a container, as a person gives it."""
        self.boxes[new] = self.boxes.pop(old)
        self.boxes[new].name = new

    def count(self, call: str) -> int:
        return sum(1 for made, _ in self.calls if made == call)

    def instances(self) -> list[ListedInstance]:
        self._call("instances")
        return [
            ListedInstance(box.name, box.id, box.phase, box.labels)
            for box in self.boxes.values()
            if labels.ENABLE in box.labels
        ]

    def inspect(self, name: str) -> Inspection:
        self._call("inspect", name)
        box = self._box(name)
        read = self._labels(box)
        port = None if isinstance(read, LabelError) else read.port
        return Inspection(
            name=name,
            phase=box.phase,
            incarnation=box.incarnation,
            labels=read,
            addresses=(("127.0.0.1", port),) if port and box.phase is Phase.RUNNING else (),
            exit_code=box.exit_code,
            oom=box.oom,
            may_begin=box.may_begin,
            ran_seconds=None if box.running else 180.0,
            health=box.health,
        )

    def start(self, name: str) -> Outcome:
        self._call("start", name)
        box = self._box(name)
        if box.program in REJECTIONS:
            error, code = REJECTIONS[box.program]
            raise StartRejected(error, exit_code=code)
        if box.phase is Phase.PAUSED:
            raise StartRejected("it is paused")
        was_running = box.running
        if not was_running:
            box.begin()
        self._call_after("start")
        return Outcome.ALREADY_SO if was_running else Outcome.DONE

    def stop(self, name: str, grace_seconds: float) -> Outcome:
        self._call("stop", name)
        box = self._box(name)
        was_running = box.running
        if was_running:
            box.end(143, signal.SIGTERM)
        self._call_after("stop")
        return Outcome.DONE if was_running else Outcome.ALREADY_SO

    def pause(self, name: str) -> Outcome:
        self._call("pause", name)
        box = self._box(name)
        if not box.running:
            raise EngineRefused("it does not run")
        return self._change_phase("pause", box, Phase.PAUSED)

    def resume(self, name: str) -> Outcome:
        self._call("resume", name)
        box = self._box(name)
        if box.phase is not Phase.PAUSED:
            return Outcome.ALREADY_SO
        return self._change_phase("resume", box, None)

    def mark(self, ours: Mapping[str, str], kind: str = OWNER) -> Mapping[str, str]:
        self._call("mark" if kind == OWNER else f"mark {kind}")
        found = self.marks.setdefault(kind, ours)
        self._call_after("mark")
        return found

    def find_mark(self, kind: str = OWNER) -> Mapping[str, str] | None:
        self._call("find_mark" if kind == OWNER else f"find_mark {kind}")
        return self.marks.get(kind)

    def remove_mark(self, kind: str = OWNER) -> None:
        self._call("remove_mark" if kind == OWNER else f"remove_mark {kind}")
        self.marks.pop(kind, None)
        self._call_after("remove_mark")

    @property
    def marked(self) -> Mapping[str, str] | None:
        """The labels of the mark of the installation that manages its instances."""
        return self.marks.get(OWNER)

    @marked.setter
    def marked(self, labels: Mapping[str, str] | None) -> None:
        self.marks.pop(OWNER, None)
        if labels is not None:
            self.marks[OWNER] = labels

    def _change_phase(self, call: str, box: Box, between: Phase | None) -> Outcome:
        was_so = box.between is between
        box.between = between
        self._call_after(call)
        return Outcome.ALREADY_SO if was_so else Outcome.DONE

    def output(self, name: str, lines: int, mark: str = "") -> str:
        self._call("output", name)
        return "".join(self._box(name).output.splitlines(keepends=True)[-lines:]) if lines else ""

    def heard_end(self, incarnation: str) -> HeardEnd | None:
        return None if self.is_deaf else self.ends.get(incarnation)

    def _call(self, call: str, name: str = "") -> None:
        self.calls.append((call, name))
        if self.before[call]:
            self.before[call].pop(0)()

    def _call_after(self, call: str) -> None:
        if self.after[call]:
            self.after[call].pop(0)()

    def _box(self, name: str) -> Box:
        box = self.boxes.get(name)
        if box is None or labels.ENABLE not in box.labels:
            raise Missing(name)
        return box

    def _labels(self, box: Box) -> Labels | LabelError:
        try:
            return labels.read(box.name, box.labels)
        except LabelError as error:
            return error


def raising(error: BaseException) -> Callable[[], object]:
    """Return a function that raises `error`, for `FakeEngine.before` and `after`."""

    def do() -> object:
        raise error

    return do
