"""The engine on a real swarm: what it changes of a service, and what it leaves to other hands."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest

from lifecycle.engines.base import Outcome, Phase
from lifecycle.engines.swarm.engine import SwarmEngine
from lifecycle.engines.swarm.services import scaled_up
from lifecycle.exceptions import EngineUnreachable, Missing, StartRejected
from tests.docker.support.faulty_proxy import Canned, FaultyProxy
from tests.servers import wait_for
from tests.swarm.support import HOST, node_host

GONE = "tcp://127.0.0.1:1"


def specification(services, name):
    return services.read(name)["Spec"]


def test_a_start_and_a_stop_change_the_replicas_alone(engine, services):
    name = services.create(environment={"SECRET": "stays"}, constraints=("node.role==manager",))
    before = specification(services, name)
    engine.start(name)
    awake = copy.deepcopy(before)
    awake["Mode"]["Replicated"]["Replicas"] = 1
    assert specification(services, name) == awake
    engine.stop(name, 5)
    assert specification(services, name) == before


def test_a_service_without_the_label_is_never_listed_or_touched(engine, services):
    stranger = services.create(labelled=False, scaled_to=1)
    wait_for(lambda: services.running(stranger))
    version = services.read(stranger)["Version"]
    for call in (engine.inspect, engine.start, lambda name: engine.stop(name, 0), lambda name: engine.output(name, 5)):
        with pytest.raises(Missing):
            call(stranger)
    assert stranger not in [one.name for one in engine.instances()]
    assert (services.read(stranger)["Version"], len(services.running(stranger))) == (version, 1)


def test_a_service_of_another_scope_is_missing(engine, services):
    name = services.create(scope="other")
    with pytest.raises(Missing):
        engine.inspect(name)
    other = SwarmEngine((HOST,), scope="other")
    assert other.inspect(name).name == name
    other.close()


def test_a_service_is_known_by_its_whole_name_alone(engine, services):
    name = services.create()
    for part in (services.read(name)["ID"], services.read(name)["ID"][:8], f"{name}/../{name}", "../info", ""):
        with pytest.raises(Missing):
            engine.inspect(part)


def test_a_change_by_another_hand_is_kept(engine, services):
    """The version that was read does not fit any more, so the service is read again."""
    name = services.create()
    stale, _ = engine._read(name)
    services.update(name, lambda spec: spec["Labels"].update(note="of another hand"))
    engine._change(stale, lambda latest: scaled_up(latest, 1))
    found = specification(services, name)
    assert (found["Labels"]["note"], found["Mode"]["Replicated"]["Replicas"]) == ("of another hand", 1)


def test_starts_at_the_same_time_make_one_task(engine, services):
    name = services.create()
    others = [SwarmEngine((HOST,)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda one: one.start(name), others))
    assert len(services.tasks(name)) == 1
    for one in others:
        one.close()


def test_one_that_others_have_scaled_up_is_running(engine, services):
    name = services.create()
    services.scale(name, 1)
    assert wait_for(lambda: engine.inspect(name).phase is Phase.RUNNING)
    assert engine.start(name) is Outcome.ALREADY_SO


def test_it_is_awake_with_as_many_tasks_as_its_label_says(engine, services):
    name = services.create(replicas="2")
    engine.start(name)
    assert services.replicas(name) == 2
    wait_for(lambda: len(services.running(name)) == 2)
    assert len(engine.inspect(name).addresses) == 2
    assert engine.stop(name, 5) is Outcome.DONE
    assert services.running(name) == []


def test_one_whose_task_has_ended_by_itself_is_started_again(engine, services):
    name = services.create()
    seen = []
    for _ in range(3):
        assert engine.start(name) is Outcome.DONE
        seen.append(engine.inspect(name).incarnation)
        services.kill(name)
        assert wait_for(lambda: engine.inspect(name).ended)
    assert len(set(seen)) == 3


def test_a_person_who_scales_to_zero_has_asked_for_the_end(engine, services):
    name = services.create()
    engine.start(name)
    incarnation = engine.inspect(name).incarnation
    assert engine.heard_end(incarnation) is None
    services.scale(name, 0)
    assert wait_for(lambda: engine.inspect(name).phase is Phase.EXITED)
    assert engine.heard_end(incarnation).signals


def test_a_person_who_removes_the_service_has_asked_for_the_end(engine, services):
    name = services.create()
    engine.start(name)
    incarnation = engine.inspect(name).incarnation
    services.remove(name)
    with pytest.raises(Missing):
        engine.inspect(name)
    assert engine.heard_end(incarnation).signals


def test_a_start_whose_manager_died_before_it_answered_is_scaled_back_if_it_fails(swarm_api, services):
    """The next manager refuses the same change, because the first one has made it."""
    name = services.create(image="127.0.0.1:1/no-such-image:1")
    proxy = FaultyProxy(engine=HOST)
    rule = proxy.answer("POST", "/services/.*/update", Canned(502, passes_on=True, times=1))
    engine = SwarmEngine((proxy.host, HOST))
    with pytest.raises(StartRejected, match="its image is missing on a node"):
        engine.start(name)
    assert (rule.count, services.replicas(name)) == (1, 0)
    engine.close()
    proxy.close()


def test_a_service_that_is_scaled_up_and_has_no_task_yet_may_begin(engine, services):
    """The swarm counts a task that has ended as started, so it makes no other one."""
    name = services.create()
    assert not engine.inspect(name).may_begin
    engine.start(name)
    assert not engine.inspect(name).may_begin
    services.kill(name)
    assert wait_for(lambda: engine.inspect(name).may_begin)


def test_managers_that_are_gone_are_passed_over(swarm_api, services):
    name = services.create()
    engine = SwarmEngine((GONE, node_host("worker"), HOST))
    assert engine.inspect(name).name == name
    engine.close()


def test_if_no_manager_answers_it_is_said_of_each_why(swarm_api):
    engine = SwarmEngine((GONE, node_host("worker")))
    with pytest.raises(EngineUnreachable) as raised:
        engine.inspect("anything")
    assert raised.value.error == (
        "none of the swarm's 2 managers answered: it cannot be reached: does it run, and is its address right?; "
        "it is no manager of a swarm: name managers, or promote it"
    )
    assert not raised.value.was_asked
