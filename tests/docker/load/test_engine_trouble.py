"""The engine hangs, restarts, is killed and comes back; the database is locked: nothing is lost, told twice or left."""

import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from lifecycle.models import EngineStatus, Instance, Lease
from lifecycle.state_machine import State
from tests.docker.support.containers import remove_marks
from tests.docker.support.engine_log import LONG, EngineLog, agree, told_by_dormouse
from tests.docker.support.from_outside import WORK, dispatch, logged, types
from tests.docker.support.own_engine import OwnEngine
from tests.servers import DEADLINE_SECONDS, wait_for

#: An engine that hangs is given up after a question's 10 s, or a call's 60 s.
PATIENCE_SECONDS = 3 * DEADLINE_SECONDS
#: For how long an engine is away that comes back.
AWAY_SECONDS = 60 if LONG else 0


@pytest.fixture
def own(own_engine: OwnEngine) -> Iterator[OwnEngine]:
    yield own_engine
    own_engine.mend()
    own_engine.containers.remove_all()
    remove_marks(own_engine.api)


@pytest.fixture
def server(serve_docker, own):
    return serve_docker(DOCKER_HOST=own.host)


def row(name):
    return Instance.objects.get(pk=name)


def test_an_engine_that_hangs_is_reported_and_no_caller_waits_long(own, server):
    sleeper, awake = own.containers.create(**WORK), own.containers.create(**WORK)
    assert dispatch(server, awake).status_code == 200
    wait_for(lambda: Instance.objects.filter(pk=sleeper))
    own.send(signal.SIGSTOP)
    with ThreadPoolExecutor(2) as callers:
        answers = list(callers.map(lambda name: dispatch(server, name), [sleeper, awake]))
    status = wait_for(lambda: EngineStatus.objects.exclude(error="").first(), PATIENCE_SECONDS, "the page to say so")
    own.send(signal.SIGCONT)
    assert {answer.json()["cause"] for answer in answers} == {"engine_unreachable"}
    assert status.error == answers[0].json()["error"] == "the Docker Engine does not answer in time"
    assert (row(awake).state, types(awake), types(sleeper)) == (
        State.READY,
        ["lazy_started"],
        ["lazy_start_failed"],
    )
    wait_for(lambda: EngineStatus.objects.filter(error=""), PATIENCE_SECONDS, "the engine to be seen again")
    assert dispatch(server, sleeper).status_code == dispatch(server, awake).status_code == 200
    assert wait_for(lambda: not Lease.objects.exists(), what="the leases to end")


def test_an_engine_that_hangs_in_a_stop_is_asked_again(own, server):
    log = EngineLog(own.api)
    name = own.containers.create(environment={"STOP": "2"}, idle_timeout="500ms", **WORK)
    dispatch(server, name)
    wait_for(lambda: row(name).state == State.STOPPING)
    own.send(signal.SIGSTOP)
    wait_for(lambda: EngineStatus.objects.exclude(error=""), PATIENCE_SECONDS)
    own.send(signal.SIGCONT)
    wait_for(lambda: "lazy_stopped" in types(name), PATIENCE_SECONDS)
    assert types(name) == ["lazy_started", "lazy_stopped"]
    assert agree(log.of(name), told_by_dormouse(name)) == "asleep"
    log.close()


@pytest.mark.parametrize("how", ["restarted", "killed"])
def test_an_engine_that_comes_back_is_followed_again(own, server, how):
    """Its containers have ended with it: they are asleep, which was none of Dormouse's doing."""
    name = own.containers.create(**WORK)
    assert dispatch(server, name).status_code == 200
    if how == "restarted":
        own.stop()
    else:
        own.kill()
    status = wait_for(lambda: EngineStatus.objects.exclude(error="").first(), PATIENCE_SECONDS, "the page to say so")
    assert status.error.startswith(
        ("the Docker Engine cannot be reached", "the connection to the Docker Engine failed")
    )
    assert dispatch(server, name).json()["cause"] == "engine_unreachable"
    time.sleep(AWAY_SECONDS)
    own.start()
    wait_for(lambda: row(name).state == State.ASLEEP, PATIENCE_SECONDS, "its sleep to be seen")
    assert "lazy_stopped" not in types(name)
    assert dispatch(server, name).status_code == 200
    before = row(name).incarnation
    own.api.restart(name, timeout=0)
    wait_for(lambda: row(name).incarnation != before, what="a change that no list shows to be heard of")
    assert "Traceback" not in server.log.read_text()


def test_an_engine_that_is_upgraded_under_its_containers_changes_nothing(own, server):
    """With `--live-restore` the containers run on while the engine is away."""
    own.stop()
    own.start("--live-restore")
    name = own.containers.create(**WORK)
    assert dispatch(server, name).status_code == 200
    before = row(name)
    own.stop_alone()
    wait_for(lambda: EngineStatus.objects.exclude(error="").first(), PATIENCE_SECONDS, "the page to say so")
    time.sleep(AWAY_SECONDS)
    own.start("--live-restore")
    wait_for(lambda: EngineStatus.objects.filter(error=""), PATIENCE_SECONDS, "the engine to be seen again")
    assert wait_for(lambda: dispatch(server, name).status_code == 200, PATIENCE_SECONDS)
    after = row(name)
    assert (after.state, after.run, after.incarnation) == (State.READY, before.run, before.incarnation)
    assert types(name) == ["lazy_started"]
    own.containers.remove_all()
    own.stop_alone()
    own.start()


def test_an_engine_that_restarts_ends_the_paused_ones_and_they_are_started_again(own, server):
    name = own.containers.create(idle_timeout="1ms", sleep="pause", **WORK)
    assert dispatch(server, name).status_code == 200
    wait_for(lambda: own.containers.state(name)["Paused"])
    own.stop()
    own.start()
    wait_for(lambda: EngineStatus.objects.filter(error=""), PATIENCE_SECONDS, "the engine to be seen again")
    assert wait_for(lambda: dispatch(server, name).status_code == 200, PATIENCE_SECONDS)
    assert "exited" not in types(name)
    started = [event for event in logged(name) if event.type == "container.lazy_started"]
    assert ["mode" in event.data for event in started] == [False, False]


def test_a_start_while_the_engine_is_killed_has_one_outcome(own, server):
    name = own.containers.create(environment={"BOOT": "5"}, **WORK)
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(dispatch, server, name)
        wait_for(lambda: own.containers.is_running(name))
        own.kill()
        own.start()
        assert answer.result().status_code in (200, 503)
    wait_for(lambda: row(name).owner is None, PATIENCE_SECONDS, "the run to be settled")
    assert [event.data["run"] for event in logged(name)].count(1) == 1
    assert dispatch(server, name).status_code == 200


@pytest.fixture
def lock():
    """Locks the whole database for writers, as a backup would."""
    if connection.vendor != "sqlite":
        pytest.skip("needs SQLite: a row of PostgreSQL's is locked on its own")
    database = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, timeout=60)
    yield database
    database.close()


def test_a_database_that_is_locked_for_seconds_delays_and_loses_nothing(serve_docker, containers, engine_log, lock):
    server = serve_docker()
    names = [containers.create(idle_timeout="1s", **WORK) for _ in range(3)]
    assert dispatch(server, names[0]).status_code == 200
    with ThreadPoolExecutor(3) as callers:
        answers = [callers.submit(dispatch, server, name) for name in names]
        for _ in range(3):
            lock.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            wait_for(lambda began=began: time.monotonic() - began > 3)
            lock.execute("ROLLBACK")
        assert [answer.result().status_code for answer in answers] == [200] * 3
    sleep = Instance.objects.filter(name__in=names, state=State.ASLEEP)
    wait_for(lambda: sleep.count() == len(names), what="everything to sleep")
    assert not Lease.objects.exists()
    for name in names:
        assert agree(engine_log.of(name), told_by_dormouse(name)) == "asleep"
