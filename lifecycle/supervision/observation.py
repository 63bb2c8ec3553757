"""What others do to instances: seen, noted in their rows, and respected. No event is invented for it.

Observers read the rows, then list, then inspect what differs, then update by version.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from queue import SimpleQueue
from typing import Any

from lifecycle.engines import labels
from lifecycle.engines.base import Listed, Sighting
from lifecycle.exceptions import EngineUnreachable, LabelError, Missing
from lifecycle.models import EngineSight, Instance, State
from lifecycle.transitions.lifecycle import Lifecycle

logger = logging.getLogger(__name__)

#: Sleeping instances whose labels are read by inspection, in one look.
INSPECTIONS = 2
#: An instance whose inspection hangs is left alone for so long.
HANGING_SECONDS = 30
#: How often an unchanged sight is written down again.
SIGHT = timedelta(seconds=10)


class Observer:
    """Looks at the engine again and again. Keeps in mind which labels it has read already."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._engine = lifecycle.engine
        self._clock = lifecycle.clock
        #: By instance: what was listed when its labels were last read.
        self._read: dict[str, tuple[str, Mapping[str, str]]] = {}
        self._heard: SimpleQueue[str] = SimpleQueue()
        self._missed_some = True
        #: By instance whose inspection hung: until when it is left alone.
        self._hanging: dict[str, float] = {}

    def hear_of(self, name: str) -> None:
        """The engine says that something happened to it: the next look inspects it. From any thread."""
        self._heard.put(name)

    def hear_again(self) -> None:
        """From now on the engine says what happens, but it has not all the time: the next look inspects what runs."""
        self._missed_some = True

    def look(self) -> None:
        """One list, and an inspection of each instance that differs from its row. Raises EngineUnreachable."""
        doubtful = {self._heard.get() for _ in range(self._heard.qsize())}
        missed_some, self._missed_some = self._missed_some, False
        try:
            rows = {row.name: row for row in Instance.objects.all()}
            if missed_some:
                doubtful |= {row.name for row in rows.values() if row.state == State.READY}
            listed = {one.name: one for one in self._list()}
            self._note_sight("")
            self._compare(rows, listed, doubtful)
        except EngineUnreachable as error:
            self._missed_some = True
            self._note_sight(str(error))
            raise
        except Exception:
            self._missed_some = True  # what was heard is lost with this look
            raise

    def _list(self) -> list[Listed]:
        try:
            return self._engine.instances()
        except EngineUnreachable:
            self._hanging.clear()  # it was the engine, not one instance
            raise

    def _compare(self, rows: dict[str, Instance], listed: dict[str, Listed], doubtful: set[str]) -> None:
        hung: list[str] = []
        for name, one in listed.items():
            if self._is_left_alone(name):
                if name in doubtful:
                    self.hear_of(name)
                continue
            with self._unless_it_hangs(name, hung):
                self._follow(rows.get(name) or self._new(one), one, name in doubtful)
        for name in rows.keys() - listed.keys():
            self._note_gone(rows[name])
        claimed = {row.name for row in rows.values() if row.state in (State.STARTING, State.STOPPING)}
        unread = [one for one in listed.values() if self._read.get(one.name) != _read_key(one)]
        self._read_labels([one for one in unread if one.name not in claimed], hung)

    def _is_left_alone(self, name: str) -> bool:
        """For a while, since it hung."""
        return self._clock.monotonic() < self._hanging.get(name, 0)

    @contextmanager
    def _unless_it_hangs(self, name: str, hung: list[str]) -> Iterator[None]:
        """One that hangs keeps nobody from the others; a second in one look is the engine. Raises EngineUnreachable."""
        try:
            yield
        except EngineUnreachable as error:
            self._hanging[name] = self._clock.monotonic() + HANGING_SECONDS
            self.hear_of(name)
            logger.warning("%s cannot be inspected: %s", name, error)
            hung.append(name)
            if len(hung) > 1:
                raise

    def _follow(self, row: Instance, one: Listed, is_doubtful: bool) -> None:
        """Whether it runs, and what, where that may differ from the row."""
        if not row.present:
            Instance.objects.filter(pk=row.pk).update(present=True)
        differs = is_doubtful or one.running != (row.state == State.READY)
        if differs and row.state in (State.ASLEEP, State.READY):
            self._note_state(row, self._inspect(row.name))

    def _note_state(self, row: Instance, seen: Sighting | None) -> None:
        if seen and seen.running:
            is_known = row.state == State.READY and row.incarnation == seen.incarnation
            if not is_known and self._lifecycle.adopt(row, seen):
                logger.info("%s was started by others", row.name)
        elif row.state == State.READY and self._fall_asleep(row):
            logger.info("%s was stopped by others", row.name)

    def _fall_asleep(self, row: Instance) -> bool:
        return Instance.objects.change(row, state=State.ASLEEP, since=self._clock.now(), probed=False)

    def _note_gone(self, row: Instance) -> None:
        self._read.pop(row.name, None)
        if row.present:
            Instance.objects.filter(pk=row.pk).update(present=False, label_error="", label_warning="")
        if row.state == State.READY:
            self._note_state(row, self._inspect(row.name))

    def _read_labels(self, unread: list[Listed], hung: list[str]) -> None:
        """Those of sleeping instances a few at a time, for a host may have hundreds."""
        unread = [one for one in unread if not self._is_left_alone(one.name)]
        running = [one for one in unread if one.running]
        sleeping = [one for one in unread if not one.running]
        for one in running + sleeping[:INSPECTIONS]:
            with self._unless_it_hangs(one.name, hung):
                seen = self._inspect(one.name)
                if seen:
                    self._note(one.name, **_of_labels(seen))
                    self._read[one.name] = _read_key(one)

    def _new(self, one: Listed) -> Instance:
        defaults = {"since": self._clock.now(), "idle_timeout": labels.idle_timeout(one.labels)}
        return Instance.objects.get_or_create(name=one.name, defaults=defaults)[0]

    def _inspect(self, name: str) -> Sighting | None:
        try:
            return self._engine.inspect(name)
        except Missing:
            return None

    def _note(self, name: str, **values: Any) -> None:
        """Facts beside the state: no version moves, and nothing is written that stands there already."""
        Instance.objects.filter(pk=name).exclude(**values).update(**values)

    def _note_sight(self, error: str) -> None:
        now = self._clock.now()
        sight, new = EngineSight.objects.get_or_create(
            engine=self._engine.name, defaults={"asked": now, "error": error, "answered": None if error else now}
        )
        if not new and (sight.error != error or _is_old(sight.asked, now)):
            sight.asked, sight.error = now, error
            sight.answered = sight.answered if error else now
            sight.save()


def _is_old(stamp: datetime, now: datetime) -> bool:
    return abs(now - stamp) >= SIGHT


def _read_key(one: Listed) -> tuple[str, Mapping[str, str]]:
    return one.id, one.labels


def _of_labels(seen: Sighting) -> dict[str, Any]:
    warning = "; ".join(seen.warnings)
    if isinstance(seen.labels, LabelError):
        return {"label_error": str(seen.labels), "label_warning": warning, "idle_timeout": None}
    return {"label_error": "", "label_warning": warning, "idle_timeout": seen.labels.idle_timeout}
