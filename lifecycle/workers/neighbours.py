"""Neighbours: other installations that use the same engine and scope. One of them alone may touch the instances.

The engine keeps a mark for each scope, which the first installation makes. The mark is looked at every few seconds, and
before each start and stop. If it is gone, it is made anew.
"""

import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import replace

from django.db import DatabaseError, connections

from lifecycle.clock import Clock
from lifecycle.engines.base import REFUSED, Engine
from lifecycle.exceptions import EngineError, EngineRefused, EngineUnreachable, Neighbour
from lifecycle.workers import installation

logger = logging.getLogger(__name__)

#: How often the mark is looked at if nothing is started or stopped.
LOOK_SECONDS = 5
#: How long a dispatch waits for the first look of another thread. Not longer, because an engine that hangs delays the
#: dispatch's own calls, too.
FIRST_LOOK_SECONDS = 1
#: An installation that found the mark of another one makes its own if there was none for this long. The other one would
#: have made it anew by then.
ABSENT_SECONDS = 30
#: An installation that was refused says so with a mark of its own. The owner removes that after REFUSED_SECONDS; if it
#: is not made anew within GONE_SECONDS, the other installation does not run any more.
REFUSED_SECONDS, GONE_SECONDS = 30, 15
#: How often a mark that is removed is made again by the other installation before `take_over` gives up.
TAKE_OVER_TRIES = 20


class Neighbours:
    """Knows whether another installation has marked the engine and scope, for all threads of this process."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        #: The neighbour that the latest look found.
        self.found: Neighbour | None = None
        #: Why the engine keeps no mark. Empty: it does, or needs none.
        self.unguarded = ""
        #: What is said of an installation that found our mark, and leaves the instances alone. Empty: there is none.
        self.refused = ""
        self._refused_since: float | None = None
        self._refused_seen = self._asked_for_refused = -math.inf
        self._looked: float | None = None
        #: Set after the first look, also after one that failed.
        self._first_look = threading.Event()
        self._has_begun = self._is_watched = False
        self._lock = threading.Lock()
        self._absent_since: float | None = None
        #: Looks are numbered as they begin: the number of the latest one, and of the one whose finding is kept.
        self._begun = self._noted = 0

    def check(self) -> None:
        """Raise Neighbour if the latest look found one. Asks the engine only if no thread has done that yet."""
        with self._lock:
            is_first, self._has_begun = not self._has_begun, True
        if is_first:
            self.look()
        self._first_look.wait(FIRST_LOOK_SECONDS)
        found = self.found  # read once, because another thread may look at this moment
        if found:
            raise replace(found)  # each caller raises its own

    def look_if_due(self) -> None:
        """Look if the latest look is a few seconds old, unless `watch` does that. Raise Neighbour as `check` does."""
        is_due = self._looked is None or self._clock.monotonic() - self._looked >= LOOK_SECONDS
        if is_due and not self._is_watched:
            self.look()
        self.check()

    def look_and_check(self) -> None:
        """Look now, and raise Neighbour as `check` does. For use before each start and stop."""
        self.look()
        self.check()

    def look(self) -> None:
        """Ask the engine whose mark it has, and make ours if it has none.

        If the engine does not answer, what the look before found stays true. Raises DatabaseError.
        """
        self._has_begun = True
        try:
            self._look()
        finally:
            self._first_look.set()

    def _look(self) -> None:
        number = self._begin_look()
        if not self._engine.keeps_mark:
            self._note(number, None)
            return
        ours = installation.our_mark()
        try:
            mark = self._find_or_make(ours)
        except EngineUnreachable as error:
            logger.debug("The mark at the engine could not be looked at: %s", error)
            return
        except EngineRefused as refusal:
            self._note(number, None, unguarded=str(refusal))
            return
        self._note(number, None if installation.is_same(mark, ours) else _neighbour(mark, ours))

    def look_for_refused(self) -> None:
        """Say to the owner that we were refused, or find out whether another installation says so to us.

        For supervisors, which tell the page. Does nothing if that was done a few seconds ago. Raises DatabaseError.
        """
        now = self._clock.monotonic()
        if self.unguarded or not self._engine.keeps_mark or now - self._asked_for_refused < LOOK_SECONDS:
            return
        if self._looked is None or now - self._looked > 2 * LOOK_SECONDS:  # the engine does not answer
            return
        self._asked_for_refused = now
        try:
            if self.found:
                self._engine.mark(installation.our_mark(), REFUSED)
                self.refused = ""
            else:
                self._note_refused(self._engine.find_mark(REFUSED))
        except EngineError as error:  # only this hint is lost
            logger.debug("Whether another Dormouse was refused is not known: %s", error)

    def take_over(self) -> str:
        """Replace the mark by ours. Return what the mark before said, or an empty text if it was ours already.

        Raises EngineError, and Neighbour if the other installation keeps on making its mark anew.
        """
        ours, before = installation.our_mark(), ""
        for _ in range(TAKE_OVER_TRIES):
            number = self._begin_look()
            mark = self._engine.mark(ours)
            if installation.is_same(mark, ours):
                self._note(number, None)
                return before
            before, other = installation.describe(mark), _neighbour(mark, ours)
            self._engine.remove_mark()
        raise other

    def watch(self) -> None:
        """Look again and again, in a thread of its own, so that a process that only dispatches notices a neighbour."""
        if self._engine.keeps_mark:
            self._has_begun = self._is_watched = True
            threading.Thread(target=self._watch, name="neighbours", daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                self.look()
            except DatabaseError as error:  # the heartbeat reports it
                logger.debug("The mark at the engine could not be looked at: %s", error)
                connections.close_all()
            self._clock.sleep(LOOK_SECONDS)

    def _find_or_make(self, ours: Mapping[str, str]) -> Mapping[str, str]:
        """Return the labels of the mark. Raises EngineUnreachable if the neighbour's is gone for a moment only."""
        if self.found is None:
            self._absent_since = None
            return self._engine.mark(ours)
        mark, now = self._engine.find_mark(), self._clock.monotonic()
        if mark is not None:
            self._absent_since = None
            return mark
        self._absent_since = now if self._absent_since is None else self._absent_since
        if now - self._absent_since < ABSENT_SECONDS:
            raise EngineUnreachable("the neighbour's mark is gone, and it may make it anew")
        return self._engine.mark(ours)

    def _note_refused(self, mark: Mapping[str, str] | None) -> None:
        now = self._clock.monotonic()
        if mark is None:
            self._refused_since = None
            if now - self._refused_seen > GONE_SECONDS:
                self.refused = ""
            return
        if not self.refused:
            logger.warning(
                "Another Dormouse wants the agents of this engine and scope: %s", installation.describe(mark)
            )
        self.refused, self._refused_seen = installation.describe(mark), now
        self._refused_since = now if self._refused_since is None else self._refused_since
        if now - self._refused_since > REFUSED_SECONDS:
            self._engine.remove_mark(REFUSED)
            self._refused_since = None

    def _begin_look(self) -> int:
        with self._lock:
            self._begun += 1
            return self._begun

    def _note(self, number: int, found: Neighbour | None, unguarded: str = "") -> None:
        """Note what a look found, unless one that began later has ended: that one knows better."""
        with self._lock:
            if number < self._noted:
                return
            self._noted = number
            before, self.found = self.found, found
        self._looked = self._clock.monotonic()
        if found and (before is None or before.owner != found.owner):
            logger.warning("%s", found.explain())
        if before and not found:
            logger.warning("Resolved: the agents of this engine and scope are managed by this Dormouse again")
        if unguarded and not self.unguarded:
            logger.warning("No mark can be kept at the engine, so another Dormouse is not noticed: %s", unguarded)
        self.unguarded = unguarded


def _neighbour(mark: Mapping[str, str], ours: Mapping[str, str]) -> Neighbour:
    if installation.is_copy(mark, ours):
        return Neighbour(installation.describe(mark), "Another Dormouse, of whose database this one is a copy,")
    return Neighbour(installation.describe(mark))
