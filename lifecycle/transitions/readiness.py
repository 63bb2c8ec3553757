"""Waiting until a started instance is ready, and why it is not.

The next probe begins a pause after a failed one. The instance is inspected before each probe, so that an exit is seen
at once.
"""

import logging
import signal
from dataclasses import dataclass

from lifecycle.clock import Clock
from lifecycle.engines.base import Engine, Inspection
from lifecycle.engines.labels import Labels
from lifecycle.exceptions import Cause, EngineUnreachable, LabelError, Missing, StartFailed
from lifecycle.models import Instance
from lifecycle.transitions.probes import Probe
from lifecycle.transitions.stopping import Stopping

logger = logging.getLogger(__name__)

#: The pause between two probes: at first, and after LONG_WAIT_SECONDS. An attempt costs about 3 ms of a processor.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.02, 0.04
LONG_WAIT_SECONDS = 30


@dataclass(frozen=True)
class Readiness:
    """Waits for instances with `probe`, which asks once."""

    engine: Engine
    clock: Clock
    stopping: Stopping
    probe: Probe

    def wait_until_ready(self, name: str, output_mark: str = "") -> Inspection:
        """Return the inspection with which the instance was ready, within its start-timeout from now.

        `output_mark` is that of an inspection before the start; output after it belongs to this run.

        Raises StartFailed if it ended or was not ready in time, LabelError, Missing and EngineUnreachable.
        """
        began = self.clock.monotonic()
        while True:
            seen = self.engine.inspect(name)
            labels = seen.settings()
            if not seen.running:
                raise self.exit_failure(seen, output_mark)
            why_not = self._ask(seen, labels)
            if why_not is None:
                return seen
            timeout_seconds = labels.start_timeout.total_seconds()
            waited_seconds = self.clock.monotonic() - began
            if waited_seconds >= timeout_seconds:
                error = f"was not ready within {timeout_seconds:g} s: {why_not}"
                raise StartFailed(name, Cause.NOT_READY, error, log_tail=self._output(seen, output_mark))
            self.clock.sleep(pause_seconds(waited_seconds))

    def wait_until_ready_or_stop(self, row: Instance, output_mark: str = "") -> Inspection:
        """Return the inspection with which a claimed instance was ready. If it is not ready in time, stop it.

        Raises StartFailed if it was not ready and does not run any more, ClaimLost and EngineUnreachable.
        """
        try:
            return self.wait_until_ready(row.name, output_mark)
        except Missing as error:
            raise missing_failure(error) from error
        except LabelError as error:
            self.stopping.stop_engine(row)
            reason = f"was made anew meanwhile, with labels in error: {error}"
            raise StartFailed(row.name, Cause.NOT_READY, reason) from error
        except StartFailed:
            self.stopping.stop_engine(row)
            raise

    def exit_failure(self, seen: Inspection, output_mark: str = "") -> StartFailed:
        """Return why a run that has ended was never ready."""
        code = seen.exit_code
        log_tail = self._output(seen, output_mark)
        if seen.oom:
            error = "ran out of memory before it was ready: give it more, or raise its limit"
            return StartFailed(seen.name, Cause.OOM, error, code, log_tail)
        return StartFailed(seen.name, Cause.EXITED, f"exited{_with_code(code)} before it was ready", code, log_tail)

    def _ask(self, seen: Inspection, labels: Labels) -> str | None:
        """Probe once. An unforeseen error counts as a failed probe, so that the run ends in time."""
        try:
            return self.probe(seen, labels)
        except Exception as error:
            logger.exception("%s: the readiness probe failed", seen.name)
            return f"the probe failed ({type(error).__name__}: {error})"

    def _output(self, seen: Inspection, output_mark: str) -> str:
        """Return the lines that the label `log-tail` asks for, or nothing if the engine does not give them."""
        if isinstance(seen.labels, LabelError):
            return ""
        try:
            return self.engine.output(seen.name, seen.labels.log_tail, output_mark)
        except (Missing, EngineUnreachable):
            return ""


def pause_seconds(waited_seconds: float) -> float:
    """Return the pause before the next probe, which grows with the time waited."""
    growth = min(1, waited_seconds / LONG_WAIT_SECONDS)
    return FIRST_PAUSE_SECONDS + (LAST_PAUSE_SECONDS - FIRST_PAUSE_SECONDS) * growth


def missing_failure(error: Missing) -> StartFailed:
    """Return the failure of a known instance that the engine does not have any more."""
    why = "the engine does not have it any more: create it again under this name, with the label dormouse.enable=true"
    return StartFailed(error.instance, Cause.MISSING, why)


def _with_code(code: int | None) -> str:
    """Name the exit code, and the signal if one ended it: shells and engines count 128 and the signal's number."""
    if code is None:
        return ""
    names = {128 + number: f" ({number.name})" for number in signal.Signals}
    return f" with code {code}{names.get(code, '')}"
