"""The metrics that come from the database: the same at every process. They must not be added up.

Each is a look at a small table or an index, so a scrape costs the same however long the log is, and writes nothing.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.db.models import Q, Sum
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from events.counts import COUNTED_BY, OTHER
from events.models import EventCount, EventLog
from lifecycle import assembly
from lifecycle.exceptions import Cause
from lifecycle.models import EngineStatus, Instance, Lease
from lifecycle.orders import Trigger
from lifecycle.state_machine import State
from telling.models import Subscription

#: By metric and its labels: the type of event that is counted there, and the values of `detail` that there may be.
#: All of them are told, with 0 at first: Prometheus sees no increase in a counter that begins with 1.
STARTS = {"started": ("container.lazy_started", ()), "failed": ("container.lazy_start_failed", tuple(Cause))}
STOPS = {
    "stopped": ("container.lazy_stopped", (Trigger.IDLE, Trigger.SLEEP, Trigger.DISABLED)),
    "failed": ("container.lazy_stop_failed", ()),
}
EXITS = ("container.exited", ("exited", "oom", "lost"))


@dataclass(frozen=True)
class Agent:
    """Holds what is told of one agent."""

    name: str
    state: str
    is_disabled: bool


def read_agents() -> list[Agent]:
    """Return the agents that the engine has. Raises DatabaseError."""
    found = (
        Instance.objects.filter(present=True)
        .annotate(is_disabled=Q(disabled__isnull=False))
        .values_list("name", "state", "is_disabled")
    )
    return [Agent(*row) for row in found]


def collect_agents(agents: list[Agent]) -> Iterator[Metric]:
    """Yield the metrics of these agents. Raises DatabaseError."""
    states = GaugeMetricFamily("dormouse_agent_state", "1 for the state of an agent.", labels=["agent", "state"])
    disabled = GaugeMetricFamily("dormouse_agent_disabled", "1 if people have disabled an agent.", labels=["agent"])
    in_flight = GaugeMetricFamily("dormouse_agent_work_in_flight", "Pieces of work in flight.", labels=["agent"])
    leases = dict(Lease.objects.order_by().values_list("instance").annotate(Sum("works")))
    for agent in agents:
        disabled.add_metric([agent.name], agent.is_disabled)
        in_flight.add_metric([agent.name], leases.get(agent.name, 0))
        for state in State:
            states.add_metric([agent.name, state], state == agent.state)
    yield from (states, disabled, in_flight)
    yield from _collect_counts(agents)


def _collect_counts(agents: list[Agent]) -> Iterator[Metric]:
    labels = ["agent", "outcome"]
    starts = CounterMetricFamily("dormouse_agent_starts", "Starts that Dormouse made.", labels=[*labels, "cause"])
    stops = CounterMetricFamily("dormouse_agent_stops", "Stops that Dormouse made.", labels=[*labels, "trigger"])
    exits = CounterMetricFamily("dormouse_agent_exits", "Ends that nobody asked for.", labels=["agent", "cause"])
    counts = _read_counts([type for type, _ in (*STARTS.values(), *STOPS.values(), EXITS)])
    for agent in agents:
        for family, outcomes in ((starts, STARTS), (stops, STOPS)):
            for outcome, (type, details) in outcomes.items():
                for detail, value in _by_detail(counts[agent.name, type], details):
                    family.add_metric([agent.name, outcome, detail], value)
        for detail, value in _by_detail(counts[agent.name, EXITS[0]], EXITS[1]):
            exits.add_metric([agent.name, detail], value)
    yield from (starts, stops, exits)


def _read_counts(types: list[str]) -> dict[tuple[str, str], dict[str, int]]:
    """Return the counts of the agents that the engine has: by agent and type, those of each detail."""
    found: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    present = Instance.objects.filter(present=True).values("pk")
    rows = EventCount.objects.filter(type__in=types, instance__in=present)
    for instance, type, detail, count in rows.values_list("instance", "type", "detail", "count"):
        found[instance, type][detail] = count
    return found


def _by_detail(counts: dict[str, int], details: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Yield the count of each of `details`, and the sum of all others if there are any, or there are no `details`."""
    for detail in details:
        yield str(detail), counts.get(detail, 0)
    others = sum(count for detail, count in counts.items() if detail not in details)
    if others or not details:
        yield "", others


def collect_subscriptions() -> Iterator[Metric]:
    """Yield the metrics of the subscriptions. Raises DatabaseError."""
    states = GaugeMetricFamily(
        "dormouse_subscription_state", "1 for the state of a subscription.", labels=["subscription", "state"]
    )
    for name, found in Subscription.objects.states(assembly.clock.now()).items():
        for state in ("delivering", "behind", "failing", "paused"):
            states.add_metric([name, state], state == found)
    yield states


def collect_log() -> Iterator[Metric]:
    """Yield the metrics of the log and the engine. Raises DatabaseError."""
    oldest, latest = EventLog.objects.bounds()
    yield GaugeMetricFamily("dormouse_log_position", "The id of the latest event.", latest)
    yield GaugeMetricFamily("dormouse_log_oldest", "The id of the oldest event that is kept; 0 if none is.", oldest)
    events = CounterMetricFamily("dormouse_events", "Events ever recorded, pruned ones too.", labels=["type"])
    counts = dict(EventCount.objects.order_by().values_list("type").annotate(Sum("count")))
    for type in (*COUNTED_BY, OTHER):
        events.add_metric([type], counts.get(type, 0))
    yield events
    reachable = GaugeMetricFamily("dormouse_engine_reachable", "1 if the engine answered.", labels=["engine"])
    asked = GaugeMetricFamily(
        "dormouse_engine_asked_age_seconds", "Since a supervisor asked the engine; 10 s are usual.", labels=["engine"]
    )
    now = assembly.clock.now()
    for status in EngineStatus.objects.filter(engine=settings.DORMOUSE_ENGINE):  # no engine of an earlier setting
        reachable.add_metric([status.engine], status.answered == status.asked)
        asked.add_metric([status.engine], max(0.0, (now - status.asked).total_seconds()))
    yield from (reachable, asked)
