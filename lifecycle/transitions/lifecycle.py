"""The state machine: when an instance is started and stopped.

    asleep --claim--> starting --ready--> ready --claim, no lease--> stopping --> asleep

Every change of state is one conditional UPDATE; no transaction contains an engine call or a probe.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import DatabaseError, connections

from lifecycle import signals
from lifecycle.clock import Clock
from lifecycle.engines.base import Engine, Sighting
from lifecycle.exceptions import (
    Cause,
    ClaimLost,
    EngineUnreachable,
    Missing,
    StartFailed,
    StartRejected,
    UnknownInstance,
)
from lifecycle.models import Instance, Lease, State
from lifecycle.transitions import leases, readiness
from lifecycle.transitions.claims import Claims, Sink, Started
from lifecycle.transitions.recovering import Recovery
from lifecycle.workers.heartbeats import ThisWorker, Watch

logger = logging.getLogger(__name__)

#: How often a row that another worker owns is looked at.
POLL_SECONDS = 0.05

#: Runs a piece of work that may take long, now or in a thread of its own.
Run = Callable[[Callable[[], object]], object]


def at_once(work: Callable[[], object]) -> object:
    return work()


def quietly(work: Callable[[], object]) -> None:
    """What cannot be done now is tried again at the next sweep."""
    try:
        work()
    except (ClaimLost, EngineUnreachable) as error:
        logger.warning("%s", error)


def unless_lost(work: Callable[[], object]) -> None:
    try:
        work()
    except ClaimLost as lost:
        logger.warning("%s", lost)


@dataclass(frozen=True)
class Grant:
    """A lease of a ready instance, and what was seen of it."""

    lease: Lease
    seen: Sighting


class Lifecycle:
    """Wakes, stops and recovers instances, for one worker.

    `sink(signal, **data)` is told of every event inside the transaction that reports it. Methods block: none is for
    coroutines.
    """

    def __init__(
        self,
        engine: Engine,
        worker: ThisWorker,
        *,
        clock: Clock | None = None,
        sink: Sink = signals.send,
        probe: readiness.Probe = readiness.probe,
    ) -> None:
        self.engine = engine
        self.worker = worker
        self.clock = clock or Clock()
        self.probe = probe
        self.watch = Watch(self.clock, worker)
        self.claims = Claims(worker, self.clock, sink)
        self.recovery = Recovery(engine, self.claims, self.clock, probe)

    @contextmanager
    def use(self, name: str) -> Iterator[Grant]:
        """Wakes the instance where it sleeps, and holds a lease of it.

        Raises UnknownInstance, LabelError, StartFailed, EngineUnreachable.
        """
        while (grant := self.take(name)) is None:
            self.wake(name)
        try:
            yield grant
        finally:
            self.give_back(grant.lease)

    def take(self, name: str) -> Grant | None:
        """A lease, where the instance is ready and runs; None: it must be woken first. Raises as `use`."""
        row = Instance.objects.filter(pk=name).first()
        if row is None or row.state != State.READY or not row.probed:
            return None
        try:
            seen = self.engine.inspect(name)
        except Missing:
            return None
        seen.settings()
        if not seen.running or seen.incarnation != row.incarnation:
            return None
        lease = leases.take(row, self.worker.id, self.clock)
        return Grant(lease, seen) if lease else None

    def give_back(self, lease: Lease) -> None:
        """Ends the work that `take` began; the idle time begins when no lease is left."""
        leases.give_back(lease, self.clock)

    def wake(self, name: str) -> None:
        """Returns when the instance was ready: whoever needs it takes a lease then, or wakes it again.

        Joins a run of another worker, and raises what became of that. Raises as `use`.
        """
        while True:
            row = self._known(name)
            if row.state == State.STARTING:
                return self._join(row)
            if row.state == State.STOPPING:
                self._wait_while(row, State.STOPPING)
            elif self._wake_settled(row):
                return None
            else:  # others changed it; or this worker is in doubt, and must beat first
                self.claims.wait_out_doubt()
                self.clock.sleep(POLL_SECONDS)

    def _known(self, name: str) -> Instance:
        """Its row; a new one, where the engine has such an instance."""
        row = Instance.objects.filter(pk=name).first()
        if row:
            return row
        try:
            seen = self.engine.inspect(name)
        except Missing:
            raise UnknownInstance(name) from None
        defaults = {"since": self.clock.now(), "idle_timeout": seen.settings().idle_timeout}
        return Instance.objects.get_or_create(name=name, defaults=defaults)[0]

    def _wake_settled(self, row: Instance) -> bool:
        """Wakes an instance that is asleep or ready. False: somebody else changed it meanwhile."""
        try:
            seen = self.engine.inspect(row.name)
        except EngineUnreachable as error:
            if row.state == State.READY:  # it may well run
                raise
            return self._fail(row, StartFailed(row.name, Cause.ENGINE_UNREACHABLE, str(error)))
        except Missing as error:
            return self._fail(row, readiness.missing(error))
        seen.settings()
        if not seen.running:
            return self._start(row, seen)
        if row.state == State.READY and row.probed and row.incarnation == seen.incarnation:
            return True
        return self._probe_found(row, seen)

    def _start(self, row: Instance, before: Sighting) -> bool:
        began = self.clock.monotonic()
        with self.claims.at_work(row.name):
            if not self.claims.start(row, before.incarnation):
                return False
            try:
                self._start_claimed(row, before, began)
            except ClaimLost as lost:
                logger.warning("%s", lost)
                return False
        return True

    def _start_claimed(self, row: Instance, before: Sighting, began: float) -> None:
        try:
            self.claims.settle_started(row, self._attempt(row, before, began))
        except StartFailed as failure:
            self.claims.settle_failed(row, failure)
            raise
        except EngineUnreachable as error:
            self.recovery.settle_unknown(row, error, began)

    def _attempt(self, row: Instance, before: Sighting, began: float) -> Started:
        """Raises StartFailed, when nothing of the run is left; EngineUnreachable, when that is not known."""
        self.claims.check(row)
        try:
            self.engine.start(row.name)
        except StartRejected as rejection:
            raise StartFailed(row.name, rejection.cause, rejection.error, rejection.exit_code) from rejection
        except Missing as error:
            raise readiness.missing(error) from error
        running = self.clock.monotonic()
        try:
            seen = self.recovery.ready_or_stopped(row, before.output_mark)
        except EngineUnreachable as error:
            raise EngineUnreachable(error.error, was_asked=True) from error  # to start it, and it did
        ready = self.clock.monotonic()
        parts_ms = {"start_ms": readiness.ms(running - began), "ready_ms": readiness.ms(ready - running)}
        return Started(seen, readiness.ms(ready - began), parts_ms)

    def _fail(self, row: Instance, failure: StartFailed) -> bool:
        """A run that ends with its claim: there was nothing to start, or nobody to ask."""
        with self.claims.at_work(row.name):
            if not self.claims.start(row, row.incarnation):
                return False
            try:
                self.claims.settle_failed(row, failure)
            except ClaimLost as lost:
                logger.warning("%s", lost)
                return False
        raise failure

    def _probe_found(self, row: Instance, seen: Sighting) -> bool:
        """One that others started: no event, and it is left running when it is not ready. Raises StartFailed.

        Its idle clock begins with the probe, for work waits for it; one that is stopped all the same is woken.
        """
        if not self.adopt(row, seen) or not Instance.objects.change(row, last_used=self.clock.now()):
            return False
        try:
            seen = readiness.wait_until_ready(self.engine, row.name, self.clock, self.probe)
        except Missing:
            return False
        except StartFailed as failure:
            if failure.cause != Cause.NOT_READY or not self._is_still(row):
                return False
            raise
        return self._is_still(row, seen.incarnation) and Instance.objects.change(row, probed=True)

    def _is_still(self, row: Instance, incarnation: str = "") -> bool:
        """Whether it is ready in that incarnation, by default the one of `row`, which is up to date then."""
        expected = incarnation or row.incarnation
        row.refresh_from_db()
        return row.state == State.READY and row.incarnation == expected

    def adopt(self, row: Instance, seen: Sighting) -> bool:
        """Notes that others started it; its idle clock begins now. False: somebody else changed the row."""
        if row.state == State.READY and row.incarnation == seen.incarnation:
            return True
        now = self.clock.now()
        values = {"state": State.READY, "since": now, "last_used": now, "probed": False}
        return Instance.objects.change(row, incarnation=seen.incarnation, **values)

    def _join(self, row: Instance) -> None:
        """Waits for the run of another worker, or for its recovery. Raises StartFailed, where that failed."""
        failure = self._wait_while(row, State.STARTING).failure or {}
        if failure.get("run") == row.run:
            raise StartFailed.from_data(row.name, failure)

    def _wait_while(self, row: Instance, state: State) -> Instance:
        """Until the row leaves `state`, or begins another run. Recovers it where its owner has died.

        Raises EngineUnreachable where that cannot be done: who waits shall not wait for an engine.
        """
        while True:
            latest = Instance.objects.get(pk=row.name)
            if latest.state != state or latest.run != row.run:
                return latest
            self._recover([latest], unless_lost)
            self.clock.sleep(POLL_SECONDS)

    def stop_idle(self, run: Run = at_once) -> None:
        """Stops what has been idle for its timeout; each stop in `run`."""
        rows = list(Instance.objects.filter(state=State.READY, idle_timeout__isnull=False))
        leased = set(Lease.objects.values_list("instance_id", flat=True))  # after the rows: see claims.stop's version
        for row in rows:
            if row.name not in leased and self._is_idle(row):
                run(lambda row=row: self._stop(row))  # type: ignore[misc]

    def _is_idle(self, row: Instance) -> bool:
        now = self.clock.now()
        if row.last_used is None or row.last_used > now:  # the wall clock was set back
            Instance.objects.change(row, last_used=now)
            return False
        return row.idle_timeout is not None and now - row.last_used >= row.idle_timeout

    def _stop(self, row: Instance) -> None:
        assert row.last_used is not None, "it is idle since then"
        idle = self.clock.now() - row.last_used
        with self.claims.at_work(row.name):
            if self.claims.stop(row, max(0, int(idle.total_seconds()))):
                self.recovery.stop_and_settle(row)

    def recover(self, run: Run = at_once) -> None:
        """Settles what dead workers left behind, each claim in `run`, and ends their leases."""
        self._recover(Instance.objects.filter(state__in=[State.STARTING, State.STOPPING]), run)
        dead = self.watch.dead(Lease.objects.values_list("worker", flat=True))
        if not self.worker.is_in_doubt():
            leases.end_those_of(dead, self.clock)
        self.watch.forget()

    def settle_own(self, name: str) -> bool:
        """Settles a claim of this worker that an error left behind. False: it cannot be settled yet."""
        try:
            own = Instance.objects.filter(pk=name, owner=self.worker.id)
            self._recover(own, unless_lost)
            return not any(self.claims.is_abandoned(row) for row in own.all())
        except (DatabaseError, EngineUnreachable) as error:
            logger.warning("%s: what an error left behind is settled later: %s", name, error)
            connections.close_all()
            return False

    def _recover(self, rows: Iterable[Instance], run: Run) -> None:
        claims = list(rows)
        dead = self.watch.dead([row.owner for row in claims])
        for row in claims:
            if row.owner in dead or self.claims.is_abandoned(row):
                run(lambda row=row: self.recovery.recover(row, theirs=row.owner in dead))  # type: ignore[misc]
