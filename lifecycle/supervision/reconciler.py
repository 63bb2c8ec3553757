"""Reconciling the rows with the engine: noting what people and other programs do to instances.

What they do is respected, and no event is invented for it. The rows are read first, then the engine is asked for a
list, then each instance that differs is inspected, and its row is changed only if it has not changed meanwhile.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from queue import SimpleQueue
from typing import Any

from django.db import DatabaseError

from lifecycle.engines import labels
from lifecycle.engines.base import Inspection, ListedInstance, Phase, container_of
from lifecycle.exceptions import (
    EngineError,
    EngineNonsense,
    EngineRefused,
    EngineUnreachable,
    LabelError,
    Missing,
    Neighbour,
)
from lifecycle.models import EngineStatus, Instance, Lease
from lifecycle.state_machine import State
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.transitions.starts.needs import circle_error, find_circle

logger = logging.getLogger(__name__)

#: In one pass the labels of at most this many sleeping instances are read, by one inspection each.
MAX_SLEEPING_INSPECTIONS = 2
#: How often, and of how many containers, it is noted that they are nearly labelled as agents.
NEAR_MISS_SECONDS, MAX_NEAR_MISSES = 60, 20
#: How often labels in error are read again: the error may be about networks, which change without the labels.
READ_AGAIN_SECONDS = 10
#: How long an instance is left alone after its inspection hung.
HANGING_SECONDS = 30
#: How often an unchanged engine status is written again.
STATUS_INTERVAL = timedelta(seconds=10)


class Reconciler:
    """Compares the rows with the engine, again and again. It remembers which labels it has read."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._engine = lifecycle.engine
        self._clock = lifecycle.clock
        #: By instance: the id and the labels that were listed when its labels were last read.
        self._labels_read: dict[str, tuple[str, Mapping[str, str]]] = {}
        #: By instance whose labels are in error: when to read them again, in monotonic seconds.
        self._read_again_at: dict[str, float] = {}
        self._marked: SimpleQueue[str] = SimpleQueue()
        #: In this pass: the names of ready instances whose containers were renamed, with their new names.
        self._renamed: dict[str, str] = {}
        self._must_inspect_ready = True
        self._next_near_misses = 0.0
        #: By instance that needs itself in the end: the names on the way, beginning with its own.
        self._circles: dict[str, list[str]] = {}
        #: By instance: the unforeseen error of the latest look at it, as a sentence.
        self._troubles: dict[str, str] = {}
        #: By instance whose inspection hung: until when it is left alone, in monotonic seconds.
        self._left_alone_until: dict[str, float] = {}

    def mark_for_inspection(self, name: str) -> None:
        """Make the next pass inspect the instance, because the engine reported an event. Any thread may call this."""
        self._marked.put(name)

    def mark_all_ready_for_inspection(self) -> None:
        """Make the next pass inspect all ready instances, because some events of the engine may have been missed."""
        self._must_inspect_ready = True

    def reconcile(self) -> None:
        """Make one pass: one list, and an inspection of each instance that differs from its row or is marked.

        Raises EngineUnreachable.
        """
        marked = {self._marked.get() for _ in range(self._marked.qsize())}
        must_inspect_ready, self._must_inspect_ready = self._must_inspect_ready, False
        try:
            rows = {row.name: row for row in Instance.objects.all()}
            if must_inspect_ready:
                marked |= {row.name for row in rows.values() if row.state == State.READY}
            listed = {one.name: one for one in self._list()}
            running = {one.id: one.name for one in listed.values() if one.running}
            self._renamed = _find_renamed(rows, running)
            self._compare(rows, listed, marked)
            _move_leases(running)
            Instance.objects.move_keep_awake(self._renamed)
            self._troubles = {name: text for name, text in self._troubles.items() if name in listed}
            self._note_status("; ".join(self._troubles.values()), answered=True)
            self._look_for_near_misses()
            self._lifecycle.ending.tell_notes(running)
        except EngineError as error:
            self._must_inspect_ready = True
            self._note_status(str(error), answered=False)
            raise
        except Exception:
            self._must_inspect_ready = True  # the marks of this pass are lost
            raise

    def note_failed_sweep(self, error: Exception) -> None:
        """Note an unforeseen error, so that the page says why nothing is stopped or seen any more."""
        self._note_status(f"the sweep failed ({error!r}); Dormouse's log has the details", answered=True)

    def note_neighbour(self, neighbour: Neighbour) -> None:
        """Note that another installation manages the instances, and that nothing was looked at for that reason."""
        self._must_inspect_ready = True  # when it is gone, what happened meanwhile is to be seen
        self._note_status("", answered=True, neighbour=neighbour.explain())

    def _list(self) -> list[ListedInstance]:
        try:
            return self._engine.instances()
        except EngineError:
            self._left_alone_until.clear()  # the engine hung, not one instance
            raise

    def _compare(self, rows: dict[str, Instance], listed: dict[str, ListedInstance], marked: set[str]) -> None:
        hung: list[str] = []
        self._find_circles(rows)
        for name, one in listed.items():
            if self._is_left_alone(name):
                if name in marked:
                    self.mark_for_inspection(name)
                continue
            self._troubles.pop(name, None)
            with self._skip_if_it_hangs(name, hung):
                self._follow(rows.get(name) or self._register(one), one, name in marked)
        for name in rows.keys() - listed.keys():
            self._note_absent(rows[name])
        claimed = {row.name for row in rows.values() if row.state in (State.STARTING, State.STOPPING)}
        unread = [one for one in listed.values() if self._is_unread(one)]
        self._read_labels([one for one in unread if one.name not in claimed], hung)

    def _find_circles(self, rows: Mapping[str, Instance]) -> None:
        """Find the instances that need each other in a circle. If one came or went, its labels are read again."""
        needs = {name: row.needs for name, row in rows.items() if row.needs}
        before = self._circles
        found = {name: find_circle(name, lambda one: needs.get(one, [])) for name in needs}
        self._circles = {name: circle for name, circle in found.items() if circle}
        for name in before.keys() ^ self._circles.keys():
            self._labels_read.pop(name, None)

    def _is_left_alone(self, name: str) -> bool:
        return self._clock.monotonic() < self._left_alone_until.get(name, 0)

    @contextmanager
    def _skip_if_it_hangs(self, name: str, hung: list[str]) -> Iterator[None]:
        """Leave an instance alone for a while if it cannot be inspected, so that the pass goes on to the others.

        Raises EngineUnreachable at the second one in a pass that hangs, because then the engine hangs.
        """
        try:
            yield
        except (EngineRefused, EngineUnreachable) as error:
            self._left_alone_until[name] = self._clock.monotonic() + HANGING_SECONDS
            self.mark_for_inspection(name)
            logger.warning("%s cannot be inspected, and is left alone for %d s: %s", name, HANGING_SECONDS, error)
            if not isinstance(error, EngineRefused | EngineNonsense):  # those cost no time
                hung.append(name)
            if len(hung) > 1:
                raise
        except DatabaseError:
            raise
        except Exception as error:
            self._left_alone_until[name] = self._clock.monotonic() + HANGING_SECONDS
            logger.exception("%s is left alone for %d s, because looking at it failed", name, HANGING_SECONDS)
            self._troubles[name] = f"{name} is left out of the sweep, because looking at it failed ({error!r})"

    def _follow(self, row: Instance, one: ListedInstance, is_marked: bool) -> None:
        """Inspect the instance if its row may be out of date, and note what is seen."""
        if not row.present:
            Instance.objects.note_present(row.name)
        if row.state == State.ASLEEP and row.is_paused != (one.phase is Phase.PAUSED):
            Instance.objects.note_paused(row.name, one.phase is Phase.PAUSED)
        differs = is_marked or one.running != (row.state == State.READY)
        if differs and row.state in (State.ASLEEP, State.READY):
            self._note_state(row, self._inspect(row.name))

    def _note_state(self, row: Instance, seen: Inspection | None) -> None:
        if seen and seen.running:
            is_known = row.state == State.READY and row.incarnation == seen.incarnation
            if not is_known and self._leave_ready(row, seen, lambda: self._lifecycle.adopting.adopt(row, seen)):
                logger.info("%s was started by others", row.name)
        elif row.state == State.READY:
            now = self._clock.now()
            if self._leave_ready(row, seen, lambda: Instance.objects.mark_asleep(row, now=now)):
                logger.info("%s does not run any more", row.name)

    def _leave_ready(self, row: Instance, seen: Inspection | None, change: Callable[[], bool]) -> bool:
        """Change the row, and tell the end of its incarnation with that. If nothing was changed, look again soon."""
        is_renamed = row.name in self._renamed  # then it has not ended
        is_changed = change() if is_renamed else self._lifecycle.ending.settle(row, seen, change)
        if not is_changed:
            self.mark_for_inspection(row.name)
        return is_changed

    def _note_absent(self, row: Instance) -> None:
        self._labels_read.pop(row.name, None)
        self._read_again_at.pop(row.name, None)
        if row.present:
            Instance.objects.note_absent(row.name, now=self._clock.now())
        if row.state == State.READY:
            self._note_state(row, self._inspect(row.name))

    def _is_unread(self, one: ListedInstance) -> bool:
        is_read = self._labels_read.get(one.name) == (one.id, one.labels)
        return not is_read or self._clock.monotonic() >= self._read_again_at.get(one.name, math.inf)

    def _read_labels(self, unread: list[ListedInstance], hung: list[str]) -> None:
        """Inspect instances for their labels: all that run, and a few that sleep, because a host may have hundreds."""
        unread = [one for one in unread if not self._is_left_alone(one.name)]
        running = [one for one in unread if one.running]
        sleeping = sorted((one for one in unread if not one.running), key=lambda one: one.name in self._read_again_at)
        for one in running + sleeping[:MAX_SLEEPING_INSPECTIONS]:
            with self._skip_if_it_hangs(one.name, hung):
                seen = self._inspect(one.name)
                if seen:
                    self._note_labels(seen)
                    self._labels_read[one.name] = (one.id, one.labels)
                    self._read_again_at.pop(one.name, None)
                    if isinstance(seen.labels, LabelError):
                        self._read_again_at[one.name] = self._clock.monotonic() + READ_AGAIN_SECONDS

    def _note_labels(self, seen: Inspection) -> None:
        circle, read = self._circles.get(seen.name), seen.labels
        error = read if isinstance(read, LabelError) else circle and circle_error(circle, self._engine.key_prefix)
        values = {"idle_timeout": None if isinstance(read, LabelError) else read.idle_timeout, "needs": seen.needs}
        Instance.objects.note_labels(seen.name, error=str(error or ""), warning="; ".join(seen.warnings), **values)

    def _register(self, one: ListedInstance) -> Instance:
        timeout = labels.idle_timeout(one.labels)
        return Instance.objects.register(one.name, now=self._clock.now(), idle_timeout=timeout)

    def _inspect(self, name: str) -> Inspection | None:
        try:
            return self._engine.inspect(name)
        except Missing:
            return None

    def _look_for_near_misses(self) -> None:
        """Note, once in a while, which containers are nearly labelled as agents. A list of all may be long."""
        now = self._clock.monotonic()
        if now < self._next_near_misses:
            return
        self._next_near_misses = now + NEAR_MISS_SECONDS
        try:
            found = self._engine.near_misses()[:MAX_NEAR_MISSES]
        except EngineError as error:  # what strangers' containers are like costs no agent its sweep
            logger.warning("Misspelt labels cannot be looked for: %s", error)
            return
        EngineStatus.objects.filter(engine=self._engine.name).exclude(near_misses=found).update(near_misses=found)

    def _note_status(self, error: str, *, answered: bool, neighbour: str = "") -> None:
        """Note whether the engine answered, what went wrong, and which other installation has its instances."""
        now = self._clock.now()
        refused = self._lifecycle.neighbours.refused
        values: dict[str, Any] = {"asked": now, "error": error, "neighbour": neighbour, "refused_neighbour": refused}
        values["answered"] = now if answered else None
        status, is_new = EngineStatus.objects.get_or_create(engine=self._engine.name, defaults=values)
        has_changed = (status.error, status.neighbour, status.refused_neighbour) != (error, neighbour, refused)
        if not is_new and (has_changed or _is_old(status.asked, now)):
            status.asked, status.error, status.neighbour, status.refused_neighbour = now, error, neighbour, refused
            status.answered = now if answered else status.answered
            status.save()


def _find_renamed(rows: Mapping[str, Instance], names: Mapping[str, str]) -> dict[str, str]:
    """Return the ready instances whose containers run under another name, with that name.

    `names` are those of the running containers, by id.
    """
    found = {name: names.get(container_of(row.incarnation)) for name, row in rows.items() if _is_ready(row)}
    return {name: new for name, new in found.items() if new and new != name}


def _move_leases(names: Mapping[str, str]) -> None:
    """Move the leases of renamed containers to their names, because the work in flight is in the containers.

    `names` are those of the running containers, by id.
    """
    for pk, name, incarnation in Lease.objects.values_list("pk", "instance", "incarnation"):
        new = names.get(container_of(incarnation))
        if new and new != name and Instance.objects.filter(pk=new).exists():
            Lease.objects.filter(pk=pk).update(instance=new)


def _is_ready(row: Instance) -> bool:
    return row.state == State.READY


def _is_old(moment: datetime, now: datetime) -> bool:
    return abs(now - moment) >= STATUS_INTERVAL
