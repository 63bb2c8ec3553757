"""The state machine of one worker, put together.

    asleep --claim--> starting --ready--> ready --claim, no lease--> stopping --> asleep

Each change of state is one conditional UPDATE. No transaction contains an engine call or a probe.
"""

from lifecycle import signals
from lifecycle.clock import Clock
from lifecycle.engines.base import Engine
from lifecycle.signals import Sink
from lifecycle.transitions.adopting import Adopting
from lifecycle.transitions.claims import Claims
from lifecycle.transitions.control import Control
from lifecycle.transitions.ending import Ending
from lifecycle.transitions.leases import Leases
from lifecycle.transitions.recovering import Recovering
from lifecycle.transitions.starts.probes import Probe, probe
from lifecycle.transitions.starts.readiness import Readiness
from lifecycle.transitions.starts.starting import Starting
from lifecycle.transitions.starts.waking import Waking
from lifecycle.transitions.stopping import Stopping
from lifecycle.transitions.work_failures import WorkFailures
from lifecycle.workers.heartbeats import LivenessWatch, ThisWorker
from lifecycle.workers.neighbours import Neighbours


class Lifecycle:
    """Wakes, stops, adopts and recovers instances, for one worker.

    `sink(signal, **data)` receives every event, inside the transaction that reports it. `probe` asks an instance once
    whether it is ready. All methods block, so coroutines call them in a thread.
    """

    def __init__(
        self,
        engine: Engine,
        worker: ThisWorker,
        *,
        clock: Clock | None = None,
        sink: Sink = signals.send,
        probe: Probe = probe,
    ) -> None:
        clock = clock or Clock()
        self.engine, self.worker, self.clock = engine, worker, clock
        self.neighbours = neighbours = Neighbours(engine, clock)
        self.claims = claims = Claims(worker, clock, sink)
        self.leases = Leases(engine, worker.id, clock, neighbours)
        self.stopping = Stopping(engine, claims, clock, neighbours)
        self.readiness = Readiness(engine, clock, self.stopping, probe)
        watch = LivenessWatch(clock, worker)
        self.recovering = Recovering(engine, worker, watch, claims, self.leases, self.readiness, self.stopping, clock)
        self.ending = Ending(engine, clock, sink)
        self.starting = Starting(engine, claims, self.readiness, self.recovering, self.ending, clock)
        self.adopting = Adopting(self.readiness, self.ending, clock)
        self.work_failures = WorkFailures(clock, sink)
        self.waking = Waking(engine, claims, self.starting, self.adopting, self.recovering, clock, neighbours)
        self.control = Control(engine, claims, self.leases, self.waking, self.adopting, self.stopping, clock, sink)
