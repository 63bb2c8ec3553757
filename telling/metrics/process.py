"""The metrics of this process alone: what it has dispatched, started and sent. They add up over processes."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import prometheus_client
from django.conf import settings
from django.db import transaction
from prometheus_client import Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from events.stream.consumer import EventStream
from events.stream.reader import sent
from lifecycle.signals import dispatched, lazy_started
from lifecycle.supervision.supervisor import latest_sweep

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series of histograms

#: All metrics of this process. Other apps and modules may register theirs here.
REGISTRY = CollectorRegistry()
prometheus_client.ProcessCollector(registry=REGISTRY)
prometheus_client.GCCollector(registry=REGISTRY)

SHORT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
LONG_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
KNOWN_STATUSES = frozenset(HTTPStatus)

Info("dormouse_build", "The version of Dormouse.", registry=REGISTRY).info({"version": settings.DORMOUSE_VERSION})
DISPATCHES = Counter(
    "dormouse_dispatches",
    "Dispatches by the status that their caller got. The agent is empty if access was refused or none has the name.",
    ["agent", "status"],
    registry=REGISTRY,
)
OVERHEAD = Histogram(
    "dormouse_dispatch_overhead_seconds",
    "From a dispatch's headers until its work is sent, if the agent was awake.",
    buckets=SHORT_SECONDS,
    registry=REGISTRY,
)
WAKE_WAIT = Histogram(
    "dormouse_dispatch_wake_wait_seconds",
    "How long dispatches waited for their agent to wake.",
    buckets=LONG_SECONDS,
    registry=REGISTRY,
)
START = Histogram(
    "dormouse_agent_start_duration_seconds",
    "From the claim of a start until the agent was ready.",
    ["agent"],
    buckets=LONG_SECONDS,
    registry=REGISTRY,
)
Gauge("dormouse_streams_open", "Streams of events that are open.", registry=REGISTRY).set_function(
    lambda: EventStream.slots.taken
)
#: The metrics with a label `agent`, of which a gone agent must disappear.
BY_AGENT = (DISPATCHES, START)


class _Counted(Collector):
    """Collects what other parts of the process count by themselves."""

    def collect(self) -> Iterable[Metric]:
        """Yield the events sent, and the age of the latest sweep if this process supervises."""
        yield CounterMetricFamily("dormouse_stream_events_sent", "Events sent to readers of streams.", sent.events)
        age_seconds = latest_sweep.age_seconds()
        if age_seconds is not None:
            yield GaugeMetricFamily(
                "dormouse_supervisor_sweep_age_seconds", "Since the latest sweep of this process.", age_seconds
            )


REGISTRY.register(_Counted())


def status_label(status: int) -> str:
    """Return `200`, or `2xx` for a number that HTTP does not name: an agent may answer anything."""
    return str(int(status)) if status in KNOWN_STATUSES else f"{status // 100}xx"


def note_dispatch(
    sender: object,
    instance: str,
    status: int,
    wake_seconds: float | None = None,
    overhead_seconds: float | None = None,
    **more: Any,
) -> None:
    """Count a dispatch when the head of its answer is there. This runs on the event loop, so it must not wait."""
    DISPATCHES.labels(instance, status_label(status)).inc()
    if wake_seconds is not None:
        WAKE_WAIT.observe(wake_seconds)
    elif overhead_seconds is not None:
        OVERHEAD.observe(overhead_seconds)


def note_start(sender: object, instance: str, latency_ms: int, **more: Any) -> None:
    """Observe how long a start took, when it is committed."""
    transaction.on_commit(lambda: START.labels(instance).observe(latency_ms / 1000))


def forget_all_but(agents: frozenset[str]) -> None:
    """Forget the series of agents that are gone, which may have been many."""
    for metric in BY_AGENT:
        for family in metric.collect():
            for agent in {sample.labels["agent"] for sample in family.samples} - agents - {""}:
                metric.remove_by_labels({"agent": agent})


dispatched.connect(note_dispatch, dispatch_uid="telling.metrics")
lazy_started.connect(note_start, dispatch_uid="telling.metrics")
