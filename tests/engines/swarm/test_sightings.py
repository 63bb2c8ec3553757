"""What is remembered of services tells whether the end of an incarnation was asked for."""

from lifecycle.engines.swarm.services import Service
from lifecycle.engines.swarm.sightings import Sightings
from lifecycle.engines.swarm.tasks import Task

NODE = {"Status": {"State": "ready"}}


def running(service_id, task_id, version=1):
    """Return a service with one task that runs."""
    status = {"State": "running", "ContainerStatus": {"ContainerID": "c"}}
    task = Task({"ID": task_id, "Status": status, "DesiredState": "running", "NodeID": "n"}, NODE)
    spec = {"Name": "reviewer", "Mode": {"Replicated": {"Replicas": 1}}}
    return Service({"ID": service_id, "Spec": spec, "Version": {"Index": version}}, [task])


def test_a_service_that_was_made_again_between_two_looks_was_removed_before():
    sightings = Sightings()
    sightings.note(running("first", "a", 1))
    sightings.note(running("second", "b", 2))
    sightings.note(running("first", "a", 1))  # by a thread that had read it before
    assert sightings.was_scaled_down("first@a")
    assert not sightings.was_scaled_down("second@b")


def test_of_many_services_the_latest_are_remembered(monkeypatch):
    monkeypatch.setattr("lifecycle.engines.swarm.sightings.MAX_REMEMBERED", 3)
    sightings = Sightings()
    for number in range(10):
        sightings.note(running(f"service{number}", "a", number))  # under the name of the one before, which is gone
    assert not sightings.was_scaled_down("service5@a")
    assert sightings.was_scaled_down("service6@a")
    assert sightings.was_scaled_down("service8@a")
    assert not sightings.was_scaled_down("service9@a")
    remembered = [found for found in vars(sightings).values() if isinstance(found, dict)]
    assert {len(found) <= 3 for found in remembered} == {True}


def test_a_task_that_was_replaced_was_not_asked_to_end():
    sightings = Sightings()
    sightings.note(running("first", "a"))
    sightings.note(running("first", "b"))
    assert not sightings.was_scaled_down("first@a")
