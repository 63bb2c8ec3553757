"""How a ready instance ends although Dormouse does not stop it: what is told of that, and who asked for it.

What a person asked the engine for is no event. A supervisor can tell, because it hears the engine's events. A dispatch
that finds a dead instance cannot; it leaves a note, which a supervisor tells.
"""

import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from django.db import transaction

from lifecycle import signals
from lifecycle.clock import Clock
from lifecycle.engines.base import Engine, HeardEnd, Inspection, container_of
from lifecycle.exceptions import EngineError, LabelError, Missing, storable_output
from lifecycle.models import EndNote, Instance, Lease
from lifecycle.signals import Sink
from lifecycle.state_machine import BROKE_OFF_WITHIN, Mode, State

logger = logging.getLogger(__name__)

#: How long the engine's events about an end may be late. After that, the end counts as not observed.
HEAR_WITHIN = timedelta(seconds=2)
#: The signals by which people ask an instance to end, in addition to its own stop signal.
ENDING_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL}


@dataclass(frozen=True)
class RunEnd:
    """The facts that are known of an incarnation that has ended."""

    instance: str
    incarnation: str
    #: None: Dormouse did not start it.
    run: int | None
    #: None: the engine does not know it any more.
    exit_code: int | None
    oom: bool
    ran_seconds: float
    work_in_flight: int
    log_tail: str
    #: The signal by which the engine stops it.
    stop_signal: int
    #: Whether it was lost with its machine, and may run on there.
    lost: bool = False

    def leave_note(self, now: datetime) -> None:
        """Leave the telling to a supervisor. Call this in the transaction that takes the row out of `ready`."""
        note = EndNote(incarnation=self.incarnation, at=now, end=asdict(self))
        EndNote.objects.bulk_create([note], ignore_conflicts=True)

    def is_by_hand(self, heard: HeardEnd) -> bool:
        """Return whether a person asked the engine to end it."""
        code = heard.exit_code if self.exit_code is None else self.exit_code
        return any(
            number in ENDING_SIGNALS or number == self.stop_signal or code == 128 + number for number in heard.signals
        )

    def data(self, heard: HeardEnd | None) -> dict[str, Any]:
        """Return the event's data. `heard` is what the engine's events said of this end; None: it was not observed."""
        code = self.exit_code if self.exit_code is not None or heard is None else heard.exit_code
        data = {
            "exit_code": code,
            "cause": self._cause(code),
            "ran_seconds": round(self.ran_seconds, 3),
            "work_in_flight": self.work_in_flight,
            "log_tail": self.log_tail,
        }
        run = {} if self.run is None else {"run": self.run}
        return data | run | ({} if heard else {"unobserved": True})

    def _cause(self, code: int | None) -> str:
        if self.lost:
            return "lost"
        return "oom" if self.oom and code == 128 + signal.SIGKILL else "exited"


class Verdict(Enum):
    """The decision about an end: to tell it or not."""

    TELL = auto()
    #: A person asked for it.
    KEEP_SILENT = auto()
    #: The engine's events may say more in a moment.
    WAIT = auto()


class Ending:
    """Notices and tells the ends of ready instances, for one worker."""

    def __init__(self, engine: Engine, clock: Clock, sink: Sink) -> None:
        self._engine = engine
        self._clock = clock
        self._sink = sink
        #: By incarnation: when it was first seen to have ended, while the engine's events about that are awaited.
        self._seen_ended: dict[str, datetime] = {}

    def find(self, row: Instance, seen: Inspection | None) -> RunEnd | None:
        """Return what is known of the end of a ready row's incarnation. None: it has not ended.

        `seen` is the latest inspection of the instance; None: the engine does not have it any more. An incarnation that
        was replaced has left no exit code and no output. One that a person was heard to end has not ended by itself.
        """
        if row.state != State.READY or (seen and seen.incarnation == row.incarnation and seen.is_alive):
            return None
        now = self._clock.now()
        same = seen if seen and seen.incarnation == row.incarnation else None
        ran_seconds = (now - row.since).total_seconds()
        if same and same.ran_seconds is not None and row.mode != Mode.PAUSE:  # a run that was resumed began later
            ran_seconds = same.ran_seconds
        end = RunEnd(
            instance=row.name,
            incarnation=row.incarnation,
            run=None if row.adopted else row.run,
            exit_code=same.exit_code if same else None,
            oom=bool(same and same.oom),
            ran_seconds=max(0, ran_seconds),
            work_in_flight=self._count_work(row, now),
            log_tail=self._output(same) if same else "",
            stop_signal=seen.stop_signal if seen else signal.SIGTERM,
            lost=bool(same and same.lost),
        )
        heard = self._engine.heard_end(row.incarnation)
        return None if heard and end.is_by_hand(heard) else end

    def settle(self, row: Instance, seen: Inspection | None, change: Callable[[], bool]) -> bool:
        """Take a ready row whose incarnation has ended out of `ready` with `change`, and tell its end with it.

        Return False if nothing was done: the row has changed, or the engine's events may say more in a moment.
        """
        end = self.find(row, seen)
        if end is None:
            self._seen_ended.pop(row.incarnation, None)
            return change()
        first = self._seen_ended.setdefault(end.incarnation, self._clock.now())
        verdict, heard = self._judge(end, first)
        if verdict is Verdict.WAIT:
            return False
        del self._seen_ended[end.incarnation]
        with transaction.atomic():
            if not change():
                return False
            if verdict is Verdict.TELL:
                self._tell(end, heard)
            return True

    def tell_notes(self, names: Mapping[str, str]) -> None:
        """Tell the ends that dispatches have noted, unless a person asked for them.

        `names` are those of the running containers, by id. A note about one that still runs is forgotten: it was
        renamed, and the dispatch found another one under its name.
        """
        for note in EndNote.objects.order_by("pk"):
            end = RunEnd(**note.end)
            if self._runs(end.incarnation, names.get(container_of(end.incarnation))):
                note.delete()
                continue
            verdict, heard = self._judge(end, note.at)
            if verdict is Verdict.WAIT:
                continue
            with transaction.atomic():
                is_ours, _ = EndNote.objects.filter(pk=note.pk).delete()
                if is_ours and verdict is Verdict.TELL:
                    self._tell(end, heard)

    def _runs(self, incarnation: str, name: str | None) -> bool:
        if name is None:
            return False
        try:
            seen = self._engine.inspect(name)
        except Missing:
            return False
        return seen.incarnation == incarnation and seen.is_alive

    def _judge(self, end: RunEnd, first_seen: datetime) -> tuple[Verdict, HeardEnd | None]:
        heard = self._engine.heard_end(end.incarnation)
        if heard is None:
            is_late = abs(self._clock.now() - first_seen) >= HEAR_WITHIN
            return Verdict.TELL if is_late else Verdict.WAIT, None
        return Verdict.KEEP_SILENT if end.is_by_hand(heard) else Verdict.TELL, heard

    def _tell(self, end: RunEnd, heard: HeardEnd | None) -> None:
        """Record the end, and keep it on the row of an instance that has not been started since."""
        now, data = self._clock.now(), end.data(heard)
        if signals.is_failed_exit(data):
            kept = {"at": now.isoformat()} | {key: value for key, value in data.items() if key != "log_tail"}
            Instance.objects.note_exit(end.instance, end.incarnation, exit=kept)
        facts = ", ".join(f"{key} {value}" for key, value in data.items() if key != "log_tail")
        logger.warning("%s ended by itself (%s)", end.instance, facts)
        self._sink(signals.exited, instance=end.instance, at=now, **data)

    def _count_work(self, row: Instance, now: datetime) -> int:
        """Return how many pieces of work were in flight when the instance ended, also those that broke off by it."""
        is_recent = row.broke_off_at is not None and abs(now - row.broke_off_at) < BROKE_OFF_WITHIN
        work = Lease.objects.filter(instance=row, incarnation=row.incarnation).count_works()
        return work + (row.broke_off if is_recent else 0)

    def _output(self, seen: Inspection) -> str:
        """Return the lines that the label `log-tail` asks for, or nothing if the engine does not give them."""
        if isinstance(seen.labels, LabelError):
            return ""
        try:
            return storable_output(self._engine.output(seen.name, seen.labels.log_tail))
        except EngineError:
            return ""
