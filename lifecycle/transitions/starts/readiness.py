"""Waiting until a started instance is ready, and why it is not.

The next probe begins a pause after a failed one. The instance is inspected before each probe, so that an exit is seen
at once.
"""

import logging
import signal
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import NoReturn

from lifecycle.clock import Clock
from lifecycle.engines.base import Engine, Inspection, Phase
from lifecycle.engines.labels import PROBED, Labels
from lifecycle.exceptions import (
    Cause,
    EngineBusy,
    EngineError,
    EngineRefused,
    LabelError,
    Missing,
    StartFailed,
    StartRejected,
)
from lifecycle.models import Instance
from lifecycle.state_machine import Mode
from lifecycle.transitions.starts.probes import Probe
from lifecycle.transitions.stopping import Stopping

logger = logging.getLogger(__name__)

#: The pause between two probes: at first, and after LONG_WAIT_SECONDS. An attempt and its look cost 2 ms of CPU.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.02, 0.04
LONG_WAIT_SECONDS = 30
#: An instance that is ready because it runs must have run for this long. A command that fails at once ends sooner.
RUNNING_HOLD_SECONDS = 0.1


@dataclass(frozen=True)
class Readiness:
    """Waits for instances with `probe`, which asks once."""

    engine: Engine
    clock: Clock
    stopping: Stopping
    probe: Probe

    def wait_until_ready(
        self, name: str, output_mark: str = "", *, was_resumed: bool = False, expected: Inspection | None = None
    ) -> Inspection:
        """Return the inspection with which the instance was ready, within its start-timeout from now.

        `output_mark` is that of an inspection before the start; output after it belongs to this run. If it
        `was_resumed`, and is ready because it runs or because it is healthy, it counts as ready at once: health turns
        "unhealthy" while it is paused. If `expected` is given, the first probe uses that, and the engine is not asked.

        Raises StartFailed if it ended or was not ready in time, StartRejected if another program answers in its place,
        LabelError, Missing and EngineUnreachable.
        """
        began = self.clock.monotonic()
        while True:
            seen, expected = expected or self.engine.inspect(name), None
            labels = seen.settings()
            if seen.ended or seen.phase is Phase.RESTARTING:
                raise self.exit_failure(seen, output_mark)
            if was_resumed and labels.ready in ("running", "health") and seen.running:
                return seen
            why_not, seen = self._ask(seen, labels)
            if why_not is None and self._goes_on_running(seen, labels):
                self.engine.check_listener(seen)
                return seen
            timeout_seconds = labels.start_timeout.total_seconds()
            waited_seconds = self.clock.monotonic() - began
            if waited_seconds >= timeout_seconds:
                asked = f" (asked {seen.asked_from})" if why_not and seen.asked_from else ""
                error = f"was not ready within {timeout_seconds:g} s: {why_not or 'it did not go on running'}{asked}"
                raise StartFailed(name, Cause.NOT_READY, error, log_tail=self._output(seen, output_mark))
            self.clock.sleep(pause_seconds(waited_seconds))

    def wait_until_ready_or_stop(
        self, row: Instance, output_mark: str = "", resumed: Inspection | None = None
    ) -> Inspection:
        """Return the inspection with which a claimed instance was ready. If it is not ready in time, stop it.

        `resumed` is what it should be after a resume.

        Raises StartFailed if it was not ready and does not run any more, ClaimLost and EngineUnreachable. If the engine
        refuses to stop it, the failure says so, and it may go on running.
        """
        try:
            if row.mode != Mode.PAUSE:
                return self.wait_until_ready(row.name, output_mark)
            return self.wait_until_ready(row.name, output_mark, was_resumed=True, expected=resumed)
        except Missing as error:
            raise missing_failure(error) from error
        except LabelError as error:
            reason = f"changed while it started: {error}"
            self._stop_and_raise(row, StartFailed(row.name, Cause.NOT_READY, reason), error)
        except EngineRefused as refusal:
            self._stop_and_raise(row, rejected_failure(row.name, refusal), refusal)
        except StartFailed as failure:
            self._stop_and_raise(row, failure, failure.__cause__)

    def _stop_and_raise(self, row: Instance, failure: StartFailed, cause: BaseException | None) -> NoReturn:
        try:
            self.stopping.stop_engine(row)
        except EngineRefused as refusal:
            failure = replace(failure, error=f"{failure.error}; it could not be stopped: {refusal.error}")
        raise failure from cause

    def exit_failure(self, seen: Inspection, output_mark: str = "") -> StartFailed:
        """Return why a run that has ended was never ready."""
        if seen.phase is Phase.CREATED:
            return StartFailed(seen.name, Cause.NOT_READY, "was made anew while it started, and has not run since")
        code = seen.exit_code
        log_tail = self._output(seen, output_mark)
        if seen.oom:
            error = "ran out of memory before it was ready: give it more, or raise its limit"
            return StartFailed(seen.name, Cause.OOM, error, code, log_tail)
        if seen.taken_away:
            error = f"ended before it was ready, because {seen.taken_away}; the next dispatch starts it on another one"
            return StartFailed(seen.name, Cause.INTERRUPTED, error, code, log_tail)
        return StartFailed(seen.name, Cause.EXITED, f"exited{_with_code(code)} before it was ready", code, log_tail)

    def _ask(self, seen: Inspection, labels: Labels) -> tuple[str | None, Inspection]:
        """Probe. Return why it is not ready, or None and the inspection with the address that answered."""
        if seen.phase is Phase.PAUSED:
            return "it is paused", seen
        if len(seen.addresses) < 2:
            return self._ask_one(seen, labels), seen
        if labels.ready in PROBED:
            return self._ask_each(seen, labels)
        why_not = self._ask_one(seen, labels)
        return why_not, seen if why_not else self._ask_each(seen, replace(labels, ready="tcp"))[1]

    def _ask_each(self, seen: Inspection, labels: Labels) -> tuple[str | None, Inspection]:
        """Probe every address at the same time, because one may hang, and use the first that answers."""
        narrowed = [replace(seen, addresses=(address,)) for address in seen.addresses]
        pool = ThreadPoolExecutor(len(narrowed), thread_name_prefix="probe")
        asked = {pool.submit(self._ask_one, one, labels): one for one in narrowed}
        pool.shutdown(wait=False)
        for done in as_completed(asked):
            if done.result() is None:
                return None, asked[done]
        return "; ".join(str(one.result()) for one in asked), seen

    def _ask_one(self, seen: Inspection, labels: Labels) -> str | None:
        """Probe once. An unforeseen error counts as a failed probe, so that the run ends in time."""
        try:
            return self.probe(seen, labels)
        except Exception as error:
            logger.exception("%s: the readiness probe failed", seen.name)
            return f"the probe failed ({type(error).__name__}: {error})"

    def _goes_on_running(self, seen: Inspection, labels: Labels) -> bool:
        """Look again after a moment if nothing but its running shows that it is ready: it may be about to fail."""
        if labels.ready != "running":
            return True
        self.clock.sleep(RUNNING_HOLD_SECONDS)
        again = self.engine.inspect(seen.name)
        return again.running and again.incarnation == seen.incarnation

    def _output(self, seen: Inspection, output_mark: str) -> str:
        """Return the lines that the label `log-tail` asks for, or nothing if the engine does not give them."""
        if isinstance(seen.labels, LabelError):
            return ""
        try:
            return self.engine.output(seen.name, seen.labels.log_tail, output_mark)
        except EngineError:
            return ""


def pause_seconds(waited_seconds: float) -> float:
    """Return the pause before the next probe, which grows with the time waited."""
    growth = min(1, waited_seconds / LONG_WAIT_SECONDS)
    return FIRST_PAUSE_SECONDS + (LAST_PAUSE_SECONDS - FIRST_PAUSE_SECONDS) * growth


def missing_failure(error: Missing) -> StartFailed:
    """Return the failure of a known instance that the engine does not have any more."""
    return StartFailed(error.instance, Cause.MISSING, f"the engine does not have it any more: {error.remedy}")


def rejected_failure(name: str, refusal: EngineRefused | EngineBusy) -> StartFailed:
    """Return the failure of a start that the engine refused."""
    if isinstance(refusal, StartRejected):
        return StartFailed(name, refusal.cause, refusal.error, refusal.exit_code)
    return StartFailed(name, Cause.START_REJECTED, refusal.error)


def _with_code(code: int | None) -> str:
    """Name the exit code, and the signal if one ended it: shells and engines count 128 and the signal's number."""
    if code is None:
        return ""
    names = {128 + number: f" ({number.name})" for number in signal.Signals}
    return f" with code {code}{names.get(code, '')}"
