"""Behaviour that only the Docker engine has."""

import gc
import socket

import pytest

from lifecycle.exceptions import Cause, EngineUnreachable, LabelError, Missing, StartRejected
from tests.docker.support.engine import HOST
from tests.engines.rigs import FAILS, DockerRig
from tests.servers import free_port, wait_for

pytestmark = pytest.mark.docker


@pytest.fixture
def engine(docker_rig):
    return docker_rig.engine


@pytest.fixture
def containers(docker_rig):
    return docker_rig.containers


def test_a_port_that_another_container_holds_is_a_conflict(engine, containers):
    port = free_port()
    engine.start(containers.create(host_port=port))
    with pytest.raises(StartRejected, match=r"a port that it publishes is taken: .*already allocated") as raised:
        engine.start(containers.create(host_port=port))
    assert raised.value.cause == Cause.PORT_CONFLICT


def test_a_port_that_another_program_holds_is_a_conflict(engine, containers, taken_port):
    with pytest.raises(StartRejected, match=r"a port that it publishes is taken: .*already in use") as raised:
        engine.start(containers.create(host_port=taken_port))
    assert raised.value.cause == Cause.PORT_CONFLICT


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_paused_container_does_not_run_and_its_start_says_what_to_do(engine, containers):
    name = containers.create()
    engine.start(name)
    containers.api.pause(name)
    assert not engine.inspect(name).running
    with pytest.raises(StartRejected, match=f"it is paused; resume it with: docker unpause {name}"):
        engine.start(name)


def test_a_list_and_an_inspection_agree_on_a_paused_container(engine, containers):
    name = containers.create()
    engine.start(name)
    containers.api.pause(name)
    assert [one.running for one in engine.instances() if one.name == name] == [False]


def test_a_container_that_was_run_with_rm_is_in_error(engine, containers):
    seen = engine.inspect(containers.create(host_config={"auto_remove": True}))
    assert isinstance(seen.labels, LabelError)
    assert "--rm" in seen.labels.reason


def test_a_restart_policy_is_a_warning(engine, containers):
    seen = engine.inspect(containers.create(host_config={"restart_policy": {"Name": "always"}}))
    assert seen.settings()
    assert [warning for warning in seen.warnings if "restart policy is always" in warning]


def test_a_misspelt_label_is_a_warning(engine, containers):
    seen = engine.inspect(containers.create(idel_timeout="5m"))
    assert seen.warnings == ("'dormouse.idel-timeout' is no label of Dormouse's",)


def test_a_container_without_the_label_is_neither_seen_nor_touched(engine, containers):
    name = containers.create(labelled=False)
    containers.api.start(name)
    with pytest.raises(Missing):
        engine.inspect(name)
    assert containers.is_running(name)


@pytest.mark.parametrize("value", ["1", "t", "T", "TRUE", "true", "True"])
def test_what_go_reads_as_true_opts_in(engine, containers, value):
    name = containers.create(labelled=False, enable=value)
    assert engine.inspect(name).settings()
    assert name in [one.name for one in engine.instances()]
    assert not [miss for miss in engine.near_misses() if name in miss]


@pytest.mark.parametrize(
    ("value", "is_miss"), [("false", False), ("0", False), ("yes", True), ("", True), ("tRue", True)]
)
def test_anything_else_does_not_opt_in(engine, containers, value, is_miss):
    name = containers.create(labelled=False, enable=value)
    with pytest.raises(Missing):
        engine.inspect(name)
    assert name not in [one.name for one in engine.instances()]
    said = f"{name}: dormouse.enable={value!r} is neither true nor false"
    assert (said in engine.near_misses()) is is_miss


def test_a_misspelt_label_is_a_near_miss(engine, containers):
    name = containers.create(labelled=False, enabled="true")
    assert f"{name}: 'dormouse.enabled' is not 'dormouse.enable'" in engine.near_misses()


def test_a_prefix_of_an_id_is_not_a_name(engine, containers):
    id = containers.api.inspect_container(containers.create())["Id"]
    with pytest.raises(Missing):
        engine.inspect(id[:12])


@pytest.mark.parametrize("name", ["..", "a/json", "a?b", "", "ä"])
def test_a_name_that_docker_does_not_allow_is_missing(engine, name):
    with pytest.raises(Missing):
        engine.inspect(name)


def test_a_container_that_is_gone_is_missing_at_its_start(engine):
    with pytest.raises(Missing):
        engine.start("nobody-knows-it")


def test_a_container_that_is_gone_is_missing_at_its_stop(engine):
    with pytest.raises(Missing):
        engine.stop("nobody-knows-it", 1)


def test_the_one_exposed_port_is_the_port(engine, containers):
    name = containers.create()
    engine.start(name)
    seen = engine.inspect(name)
    bound = containers.api.inspect_container(name)["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"]
    assert (seen.settings().port, seen.address) == (8080, ("127.0.0.1", int(bound)))


def test_a_container_on_the_hosts_network_is_reached_on_loopback(engine, containers):
    name = containers.create(host_config={"network_mode": "host", "port_bindings": {}}, command=["sleep", "60"])
    engine.start(name)
    assert engine.inspect(name).address == ("127.0.0.1", 8080)


def test_a_container_that_publishes_no_port_is_reached_on_its_own_address(engine, containers):
    name = containers.create(port="9999")
    engine.start(name)
    own = containers.api.inspect_container(name)["NetworkSettings"]["IPAddress"]
    assert engine.inspect(name).address == (own, 9999)


def test_health_is_the_result_of_the_healthcheck(engine, containers):
    second = 10**9
    check = {"test": ["CMD", "cat", "/agent"], "interval": second}
    name = containers.create(healthcheck=check, ready="health")
    engine.start(name)
    assert wait_for(lambda: engine.inspect(name).health == "healthy")


def test_a_healthcheck_slower_than_the_start_timeout_is_in_error(engine, containers):
    check = {"test": ["CMD", "cat", "/agent"]}
    seen = engine.inspect(containers.create(healthcheck=check, ready="health", start_timeout="30s"))
    assert isinstance(seen.labels, LabelError)
    assert seen.labels.reason == "must exceed the interval of the HEALTHCHECK, 30s"


def test_a_container_that_ignores_the_stop_is_killed_after_the_grace(engine, containers):
    name = containers.create(command=["sh", "-c", "trap '' TERM; while sleep 1; do :; done"])
    engine.start(name)
    engine.stop(name, 1)
    assert engine.inspect(name).exit_code == 137


def test_output_of_a_running_container_is_whole_without_a_mark(engine, containers):
    """The first output of a run is older than StartedAt."""
    name = containers.create(command=["sh", "-c", f"({FAILS}); sleep 60"])
    engine.start(name)
    first = wait_for(lambda: engine.output(name, 20))
    engine.stop(name, 0)
    engine.start(name)
    second = wait_for(lambda: engine.output(name, 20))
    assert (first.count("this is run"), second.count("this is run")) == (1, 1)
    assert first != second


def test_output_that_is_not_utf8_is_shown_with_replacements(engine, containers):
    name = containers.create(command=["sh", "-c", "printf 'a\\377b'"])
    engine.start(name)
    assert wait_for(lambda: engine.output(name, 20)) == "a\N{REPLACEMENT CHARACTER}b"


def test_a_list_is_one_request_however_many_containers_there_are(engine, containers):
    for _ in range(3):
        containers.create()
    engine.instances()
    asked = []
    (client,) = engine._clients.values()
    client.hooks["response"].append(lambda answer, **more: asked.append(answer.url))
    engine.instances()
    assert len(asked) == 1


@pytest.fixture
def elsewhere(docker_api, tmp_path):
    """Return the rig of an engine whose socket does not exist yet."""
    rig = DockerRig(docker_api, f"unix://{tmp_path}/docker.sock")
    yield rig
    rig.close()
    gc.collect()  # the SDK leaves a socket open that it could not connect


pytest_ignores_that = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest_ignores_that
def test_a_call_without_a_socket_never_reached_the_engine(elsewhere):
    with pytest.raises(EngineUnreachable, match="cannot be reached") as raised:
        elsewhere.engine.instances()
    assert not raised.value.was_asked


@pytest_ignores_that
def test_an_engine_that_starts_later_answers(elsewhere, tmp_path):
    with pytest.raises(EngineUnreachable):
        elsewhere.engine.instances()
    (tmp_path / "docker.sock").symlink_to(HOST.removeprefix("unix://"))
    assert isinstance(elsewhere.engine.instances(), list)
