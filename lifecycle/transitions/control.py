"""What people and programs order besides work: wake, sleep, keep awake, disable and enable an instance.

Keeping awake and disabling are columns of the instance's row that do not move its version, so that no claim is lost by
them. Each change of them is committed with its event.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.dispatch import Signal

from lifecycle import signals
from lifecycle.clock import Clock, as_text, milliseconds
from lifecycle.engines.base import Engine
from lifecycle.engines.labels import parse_positive_duration
from lifecycle.exceptions import Missing, NeededBy, NotReady, OthersDecision, StopFailed, WorkInFlight, storable
from lifecycle.models import Instance, Lease
from lifecycle.orders import Order, Trigger
from lifecycle.signals import Sink
from lifecycle.state_machine import State
from lifecycle.transitions.adopting import Adopting
from lifecycle.transitions.claims import Claims
from lifecycle.transitions.leases import Leases
from lifecycle.transitions.starts.waking import Waking
from lifecycle.transitions.stopping import Stopping

logger = logging.getLogger(__name__)

#: For how long an instance can be kept awake at once.
MAX_AWAKE = timedelta(hours=24)
MAX_REASON_CHARACTERS = 200
#: A lease ends so long after its last work, at the latest. Before that it does not prove that there is work.
LEASE_ENDS_WITHIN_SECONDS = 1
LOOK_AGAIN_SECONDS = 0.1


@dataclass(frozen=True)
class Control:
    """Carries out orders, for one worker. Its methods block; they are not for coroutines.

    Each of them raises UnknownInstance, Neighbour if it touches the instance, and EngineUnreachable if the engine had
    to be asked and did not answer.
    """

    engine: Engine
    claims: Claims
    leases: Leases
    waking: Waking
    adopting: Adopting
    stopping: Stopping
    clock: Clock
    sink: Sink

    def wake(self, name: str, order: Order) -> int | None:
        """Return when the instance is ready, and how long that took, in ms. None: it was ready. Its idle clock begins.

        Raises Disabled, LabelError and StartFailed.
        """
        began, latency_ms = self.clock.monotonic(), None
        while (leased := self.leases.take(name, order)) is None:
            self.waking.wake(name, order)
            latency_ms = milliseconds(self.clock.monotonic() - began)
        self.leases.give_back(leased.lease)
        return latency_ms

    def sleep(self, name: str, order: Order, *, force: bool = False) -> None:
        """Return when the instance is asleep. Being kept awake ends. With `force`, work in flight is broken off.

        Raises NeededBy, WorkInFlight, and StopFailed if the engine refuses to stop it.
        """
        until = self.clock.monotonic() + LEASE_ENDS_WITHIN_SECONDS
        while True:
            row = self.waking.wait_until_settled(name)
            if row.state == State.ASLEEP:
                if not self._adopt_if_running(row):
                    Instance.objects.filter(pk=name).end_keep_awake()
                    return
                continue
            works = Lease.objects.filter(instance=row).count_works()  # after the row: a later one changes its version
            dependents = Instance.objects.dependents().get(name)
            if dependents:
                raise NeededBy(name, dependents)
            if works and not force:
                if self.clock.monotonic() < until:
                    self.clock.sleep(LOOK_AGAIN_SECONDS)
                    continue
                raise WorkInFlight(name, works)
            with self.claims.working_on(name):
                if self.stopping.claim(row, 0 if works else self.stopping.idle_seconds(row), order):
                    refused = self.stopping.stop_and_settle(row)
                    if refused:
                        raise StopFailed(name, refused)
                    return

    def keep_awake(self, name: str, until: datetime, caller: dict[str, Any]) -> datetime:
        """Keep the instance awake until then, or longer if that was decided before. Return until when.

        Raises NotReady if the instance is not ready.
        """
        self.waking.find_or_register(name)
        with transaction.atomic():
            row, now = Instance.objects.select_for_update().get(pk=name), self.clock.now()
            if row.awake_until and row.awake_until >= until and row.state == State.READY:
                return row.awake_until
            if not Instance.objects.filter(pk=name).keep_awake(until=until, by=caller):
                raise NotReady(name, row.state)
            self._tell(signals.kept_awake, name, now, until=as_text(until), **caller)
        return until

    def end_keep_awake(self, name: str, caller: dict[str, Any], *, may_control: bool) -> None:
        """Let the instance sleep when it is idle. Do nothing if it is not kept awake.

        Raises OthersDecision if another caller decided that it is kept awake, and this one may not control it.
        """
        self.waking.find_or_register(name)
        with transaction.atomic():
            row, now = Instance.objects.select_for_update().get(pk=name), self.clock.now()
            if row.awake_until is None or row.awake_until <= now:
                return
            if not may_control and row.awake_by != _identity(caller):
                raise OthersDecision(name, (row.awake_by or {}).get("by", ""))
            Instance.objects.filter(pk=name).end_keep_awake()
            self._tell(signals.keep_awake_ended, name, now, until=as_text(row.awake_until), **caller)

    def disable(self, name: str, reason: str, caller: dict[str, Any], *, force: bool = False) -> dict[str, Any]:
        """Refuse new work from now on; a supervisor puts the instance to sleep when its work has ended.

        With `force` the supervisor breaks the work off. Return what is kept. Do nothing if the same was decided before.
        """
        self.waking.find_or_register(name)
        reason = storable(reason)[:MAX_REASON_CHARACTERS]
        with transaction.atomic():
            row, now = Instance.objects.select_for_update().get(pk=name), self.clock.now()
            found: dict[str, Any] = row.disabled or {}
            if found and found["reason"] == reason and found["force"] >= force:
                return found
            kept = {"at": as_text(now), "reason": reason, "force": force, **caller}
            Instance.objects.filter(pk=name).disable(kept)
            self._tell(signals.disabled, name, now, reason=reason, **caller)
        return kept

    def enable(self, name: str, caller: dict[str, Any]) -> None:
        """Let work be dispatched to the instance again. Do nothing if it is not disabled."""
        self.waking.find_or_register(name)
        with transaction.atomic():
            row, now = Instance.objects.select_for_update().get(pk=name), self.clock.now()
            if row.disabled:
                Instance.objects.filter(pk=name).enable()
                self._tell(signals.enabled, name, now, reason=row.disabled["reason"], **caller)

    def _adopt_if_running(self, row: Instance) -> bool:
        """Return whether the engine runs an instance whose row is asleep, because others started it just now."""
        try:
            seen = self.engine.inspect(row.name)
        except Missing:
            return False
        if seen.running:
            self.adopting.adopt(row, seen)
        return seen.running

    def _tell(self, signal: Signal, name: str, now: datetime, **data: Any) -> None:
        self.sink(signal, instance=name, at=now, **data)
        facts = ", ".join(f"{key} {value!r}" for key, value in data.items())
        transaction.on_commit(lambda: logger.info("%s was %s (%s)", name, SAID[signal], facts))


#: What was done to an instance by an order that may break its work off.
BROKEN_OFF_BY = {Trigger.SLEEP: "put to sleep", Trigger.DISABLED: "disabled"}

#: What the log's line says of each event.
SAID = {
    signals.kept_awake: "kept awake",
    signals.keep_awake_ended: "allowed to sleep",
    signals.disabled: "disabled",
    signals.enabled: "enabled",
}


def why_asleep(name: str, run: int) -> str:
    """Return by whose order that run was put to sleep: "it was put to sleep by alice".

    Return an empty text if no person ordered it, or the instance has been started again since.
    """
    row = Instance.objects.filter(pk=name, run=run, state__in=[State.STOPPING, State.ASLEEP]).first()
    ordered: dict[str, Any] = (row and row.ordered) or {}
    done = BROKEN_OFF_BY.get(ordered.get("trigger", ""))
    return f"it was {done}{' by ' + ordered['by'] if ordered.get('by') else ''}" if done else ""


def read_until(now: datetime, *, duration: str | None = None, until: str | None = None) -> datetime:
    """Return until when a caller wants an instance kept awake: `duration` as `1h30m`, or `until` with its time zone.

    Raises ValueError, with a sentence for a person.
    """
    if (duration is None) == (until is None):
        raise ValueError("Say either for how long or until when.")
    if duration is not None:
        try:
            found = now + min(parse_positive_duration(duration), 2 * MAX_AWAKE)
        except ValueError as error:
            raise ValueError(f"{duration!r} {error}.") from None
    else:
        found = _parse_time(str(until))
    if found <= now:
        raise ValueError("That time has passed.")
    if found > now + MAX_AWAKE:
        raise ValueError("An agent can be kept awake for at most 24 h.")
    return found


def _parse_time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write it as 2026-11-26T05:40:00Z.") from None
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: write it as 2026-11-26T05:40:00Z.")
    return moment


def _identity(caller: dict[str, Any]) -> dict[str, Any]:
    """Return who called, without what for."""
    return {key: value for key, value in caller.items() if key != "for"}
