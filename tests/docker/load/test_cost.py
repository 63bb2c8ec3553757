"""What it costs to watch very many: a constant number of engine calls."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from lifecycle.engines.labels import ENABLE
from lifecycle.models import Instance
from lifecycle.state_machine import State
from lifecycle.supervision.supervisor import Supervisor
from tests.docker.support.containers import IMAGE

SLEEPERS = 500


@pytest.fixture
def sleepers(docker_api):
    """Created, and not running."""
    names = [f"sleeper-{number:03}" for number in range(SLEEPERS)]
    with ThreadPoolExecutor(4) as hands:
        list(hands.map(lambda name: docker_api.create_container(IMAGE, name=name, labels={ENABLE: "true"}), names))
    yield names
    with ThreadPoolExecutor(4) as hands:
        list(hands.map(docker_api.remove_container, names))


@pytest.fixture
def calls(lifecycle):
    """Every request to the engine from now on."""
    made = []
    lifecycle.engine.instances()
    lifecycle.neighbours.look()
    (client,) = lifecycle.engine._clients.values()
    client.hooks["response"].append(lambda answer, **more: made.append(answer.request.path_url))
    return made


def test_a_sweep_over_five_hundred_takes_at_most_three_engine_calls(sleepers, lifecycle, calls):
    """And once a minute one more, which looks for misspelt labels, and every few seconds two for the marks."""
    supervisor = Supervisor(lifecycle)
    for _ in range(5):
        calls.clear()
        supervisor.sweep()
        asked = [call for call in calls if "/volumes/" not in call]
        filtered = [call for call in asked if "/json?" not in call or "filters=" in call]
        assert 1 <= len(filtered) <= 3, calls
        assert len(asked) - len(filtered) <= 1, calls
        assert len(calls) - len(asked) <= 2, calls
    assert Instance.objects.filter(name__in=sleepers, state=State.ASLEEP).count() == SLEEPERS
