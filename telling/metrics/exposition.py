"""One scrape: the metrics of the database and of this process, in Prometheus's text format."""

from collections.abc import Collection, Iterator

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from telling.metrics import process, shared

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def render(limits: Collection[str] = ()) -> bytes:
    """Return all metrics. Of agents, tell only those of `limits` if there are any. Raises DatabaseError."""
    return generate_latest(_Scrape(limits))


class _Scrape(Collector):
    def __init__(self, limits: Collection[str]) -> None:
        self._limits = limits

    def collect(self) -> Iterator[Metric]:
        """Yield each metric, without the agents that are gone or that the user has nothing to do with."""
        agents = shared.read_agents()
        process.forget_all_but(frozenset(agent.name for agent in agents))
        told = [agent for agent in agents if not self._limits or agent.name in self._limits]
        names = {agent.name for agent in told}
        yield from shared.collect_agents(told)
        if not self._limits:  # all else tells of other agents too
            names.add("")
            yield from shared.collect_log()
            yield from shared.collect_subscriptions()
        for family in process.REGISTRY.collect():
            family.samples = [one for one in family.samples if one.labels.get("agent", "") in names]
            if family.samples:
                yield family
