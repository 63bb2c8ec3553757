"""What the engine refuses, on a real engine: what it is about decides, and not its status. No refusal holds a claim."""

import re
import threading
import time

import pytest

from lifecycle.engines.base import Outcome
from lifecycle.exceptions import Cause, EngineNonsense, EngineRefused, StartFailed
from lifecycle.models import Instance
from lifecycle.state_machine import State
from tests.docker.support.faulty_proxy import Canned
from tests.docker.support.from_outside import types
from tests.servers import wait_for

HTML = "<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>"
#: How long the container is marked for removal.
REMOVAL_SECONDS = 0.5


def failure(lifecycle, name):
    with pytest.raises(StartFailed) as raised:
        lifecycle.waking.wake(name)
    row = Instance.objects.get(pk=name)
    assert (row.state, row.owner) == (State.ASLEEP, None)
    return raised.value


@pytest.fixture
def network(docker_api):
    """Return a function that makes a network of this name, in place of one that was made before."""
    name = "dormouse-test-network"

    def make():
        remove()
        docker_api.create_network(name)
        return name

    def remove():
        for one in docker_api.networks(names=[name]):
            docker_api.remove_network(one["Id"])

    yield make
    remove()


def test_a_network_that_was_made_anew_is_a_rejection_in_the_engines_words(lifecycle, containers, network):
    name = containers.create(host_config={"network_mode": network()})
    lifecycle.engine.start(name)
    lifecycle.engine.stop(name, 0)
    network()
    failed = failure(lifecycle, name)
    assert failed.cause == Cause.START_REJECTED
    assert "not found: connect it to a network that exists, or make the container anew" in failed.error


@pytest.mark.parametrize("kind", ["its only network", "one more network"])
def test_a_network_that_is_gone_is_a_rejection_in_the_engines_words(lifecycle, containers, network, kind):
    gone = network()
    if kind == "its only network":
        name = containers.create(host_config={"network_mode": gone})
    else:
        name = containers.create()
        containers.api.connect_container_to_network(name, gone)
    containers.api.remove_network(gone)
    failed = failure(lifecycle, name)
    assert failed.cause == Cause.START_REJECTED
    assert re.search(r"network \S+ not found: connect it to a network that exists, or", failed.error)


@pytest.mark.parametrize("then", ["gone", "made anew", "asleep"])
def test_a_neighbour_whose_network_it_shares_and_that_does_not_run_is_a_rejection(lifecycle, containers, then):
    vpn = containers.create()
    containers.api.start(vpn)
    name = containers.create(host_config={"network_mode": f"container:{vpn}"}, exposed=False, port="8080")
    if then == "asleep":
        containers.api.stop(vpn, timeout=0)
    else:
        containers.api.remove_container(vpn, force=True)
    if then == "made anew":
        containers.api.start(containers.create(name=vpn))
    failed = failure(lifecycle, name)
    assert failed.cause == Cause.START_REJECTED
    said = "cannot join network of a non running container" if then == "asleep" else "is gone: No such container"
    assert said in failed.error


@pytest.mark.parametrize("shared", ["pid_mode", "ipc_mode"])
def test_a_neighbour_with_which_it_shares_something_else_and_that_is_gone_is_a_rejection(lifecycle, containers, shared):
    other = containers.create(host_config={"ipc_mode": "shareable"})
    containers.api.start(other)
    name = containers.create(host_config={shared: f"container:{other}"})
    containers.api.remove_container(other, force=True)
    failed = failure(lifecycle, name)
    assert failed.cause == Cause.START_REJECTED
    assert "No such container" in failed.error
    assert "network" not in failed.error


def test_a_start_that_is_refused_with_400_says_nothing_of_an_earlier_run(behind_proxy, proxy, containers):
    name = containers.create(command=["sh", "-c", "exit 126"])
    containers.api.start(name)
    wait_for(lambda: not containers.is_running(name))
    proxy.answer("POST", "/start$", Canned(400, {"message": "starting container with non-empty request body"}))
    failed = failure(behind_proxy, name)
    assert (failed.cause, failed.exit_code) == (Cause.START_REJECTED, None)
    assert failed.error == "starting container with non-empty request body"


def test_a_volume_that_cannot_be_mounted_is_a_rejection_in_the_engines_words(lifecycle, containers):
    name = containers.create(host_config={"binds": ["/proc/1/no/such/folder:/data"]})
    failed = failure(lifecycle, name)
    assert (failed.cause, failed.exit_code) == (Cause.START_REJECTED, None)
    assert "/proc/1/no/such/folder" in failed.error


def test_a_filter_that_answers_with_html_is_one_sentence(behind_proxy, proxy, containers):
    proxy.answer("POST", "/start$", Canned(403, HTML, "text/html"))
    failed = failure(behind_proxy, containers.create())
    assert (failed.cause, failed.error) == (
        Cause.START_REJECTED,
        "start was refused with 403, probably by a filter in front of the engine; "
        "docs/docker-engine.md lists what must be allowed",
    )


def test_a_plugin_of_the_engine_that_denies_a_start_is_quoted(behind_proxy, proxy, containers):
    proxy.answer("POST", "/start$", Canned(403, {"message": "authorization denied by plugin opa: not on Fridays"}))
    assert failure(behind_proxy, containers.create()).error == "authorization denied by plugin opa: not on Fridays"


def test_a_filter_that_forbids_the_version_is_named(behind_proxy, proxy):
    proxy.answer("GET", "/version$", Canned(403, HTML, "text/html"))
    with pytest.raises(EngineRefused, match="version was refused with 403, probably by a filter"):
        behind_proxy.engine.instances()


def test_a_container_that_is_being_removed_is_looked_at_again(behind_proxy, proxy, containers):
    marked = Canned(409, {"message": "container is marked for removal and cannot be started"}, times=3)
    proxy.answer("POST", "/start$", marked)
    name = containers.create()
    behind_proxy.waking.wake(name)
    assert types(name) == ["lazy_started"]


def test_the_new_container_of_a_name_answers_when_the_old_one_is_removed(behind_proxy, proxy, containers):
    name = containers.create()
    rule = proxy.answer("POST", "/start$", Canned(409, {"message": "removal of container x is already in progress"}))

    def deploy():
        wait_for(lambda: rule.count)
        containers.api.remove_container(name)
        proxy.rules.clear()
        time.sleep(REMOVAL_SECONDS)  # meanwhile there is no container of this name
        containers.api.rename(containers.create(), name)

    deploying = threading.Thread(target=deploy)
    deploying.start()
    behind_proxy.waking.wake(name)
    deploying.join()
    containers.remove_too(name)
    assert types(name) == ["lazy_started"]


def test_the_new_container_of_a_name_answers_if_the_old_one_was_asked_to_start(behind_proxy, proxy, containers):
    """Between the engine's answer and the question whether there is one, another container has got the name."""
    name = containers.create()
    rule = proxy.answer("POST", "/start$", Canned(404, {"message": f"No such container: {name}"}))

    def end_of_deploy():
        wait_for(lambda: rule.count)
        proxy.rules.clear()

    deploying = threading.Thread(target=end_of_deploy)
    deploying.start()
    behind_proxy.waking.wake(name)
    deploying.join()
    assert types(name) == ["lazy_started"]


def test_a_removal_that_does_not_end_is_a_rejection(behind_proxy, proxy, containers, monkeypatch):
    monkeypatch.setattr("lifecycle.transitions.starts.starting.LOOK_AGAIN_SECONDS", 0.3)
    proxy.answer("POST", "/start$", Canned(409, {"message": "container is marked for removal and cannot be started"}))
    failed = failure(behind_proxy, containers.create())
    assert (failed.cause, failed.error) == (
        Cause.START_REJECTED,
        "the Docker Engine refused for now: container is marked for removal and cannot be started",
    )


def test_a_gateway_that_lost_the_answer_of_a_start_that_was_made_is_found_out(behind_proxy, proxy, containers):
    proxy.answer("POST", "/start$", Canned(504, "<html>Gateway Timeout</html>", "text/html", passes_on=True))
    name = containers.create()
    behind_proxy.waking.wake(name)
    assert types(name) == ["lazy_started"]


LOGIN = "<html><body>Sign in</body></html>"


@pytest.mark.parametrize("status", [200, 302])
def test_an_answer_of_another_program_is_no_start(behind_proxy, proxy, containers, status):
    """A proxy that wants a login answers with its page, or leads there."""
    proxy.answer("POST", "/start$", Canned(status, LOGIN, "text/html"))
    failed = failure(behind_proxy, containers.create())
    assert (failed.cause, failed.error) == (
        Cause.INTERRUPTED,
        f"it has not started: the answer {status} to start is not the Docker Engine's; the next dispatch tries again",
    )


def test_another_programs_404_is_not_a_missing_container(behind_proxy, proxy, containers):
    name = containers.create()
    proxy.answer("GET", f"/containers/{name}/json$", Canned(404, "404 page not found", "text/plain"))
    with pytest.raises(
        EngineNonsense, match="the answer 404 to inspect is not the Docker Engine's: 404 page not found"
    ):
        behind_proxy.engine.inspect(name)


def test_a_start_and_a_stop_say_whether_there_was_something_to_do(lifecycle, containers):
    name = containers.create()
    engine = lifecycle.engine
    assert [engine.start(name), engine.start(name)] == [Outcome.DONE, Outcome.ALREADY_SO]
    assert [engine.stop(name, 0), engine.stop(name, 0)] == [Outcome.DONE, Outcome.ALREADY_SO]
