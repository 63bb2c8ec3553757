"""Two installations with different databases on one engine: one manages the agents, and nobody's work is stopped."""

import os
import signal
import subprocess
import sys
import threading

import httpx
import pytest
from docker.errors import NotFound

from lifecycle.models import EngineStatus, Instance
from lifecycle.state_machine import State
from lifecycle.workers.neighbours import Neighbours
from tests.docker.support.engine import HOST
from tests.docker.support.faulty_proxy import Canned
from tests.docker.support.from_outside import WORK, dispatch
from tests.servers import PROJECT, wait_for

MARK = "dormouse-mark"
MANAGES = "manages the agents of this engine and scope"


class Installation:
    """A Dormouse with a database of its own."""

    def __init__(self, folder, start, **more):
        self.environment = {"DATABASE_URL": f"sqlite:///{folder}/other.sqlite3", "DORMOUSE_ENGINE": "docker"}
        self.environment |= {"DOCKER_HOST": HOST, **more}
        self.manage("migrate", "--verbosity", "0")
        self.server = start(**self.environment)

    def manage(self, *arguments, code=0):
        """Run a command, and return what it said."""
        run = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == code, run.stderr
        return run.stdout + run.stderr


def neighbour_of(server):
    """Return what the server's page says of its neighbour, or None if no supervisor has looked yet."""
    engines = httpx.get(f"{server.url}/api/instances", headers=server.bearer).json()["engines"]
    return engines[0]["neighbour"] if engines else None


def code_of(server, name):
    """Return the status of a dispatch, with the code of an error of Dormouse's own."""
    answer = dispatch(server, name)
    return answer.status_code, answer.headers.get("Dormouse-Error")


def identity_of_mark(api, scope=""):
    name = f"{MARK}.{scope}" if scope else MARK
    return api.inspect_volume(name)["Labels"]["dormouse.installation"]


@pytest.fixture
def first(serve_docker):
    server = serve_docker()
    wait_for(lambda: neighbour_of(server) == "", what="the first one to look")
    return server


@pytest.fixture
def second(first, serve_docker, tmp_path):
    """An installation of the same scope, which has found the other's mark."""
    found = Installation(tmp_path, serve_docker)
    wait_for(lambda: neighbour_of(found.server), what="the second one to look")
    return found


def test_a_second_installation_stops_no_work_and_says_why(first, second, containers):
    name = containers.create(idle_timeout="1ms", environment={"HOLD": "1"}, **WORK)
    answers = []
    working = threading.Thread(target=lambda: answers.append(dispatch(first, name, "a letter")))
    working.start()
    wait_for(lambda: Instance.objects.filter(pk=name, state=State.READY), what="the work in flight")
    assert code_of(second.server, name) == (503, "neighbour")
    assert MANAGES in second.manage("wake", name, code=1)
    assert MANAGES in neighbour_of(second.server)
    assert "another Dormouse" in httpx.get(f"{second.server.url}/readyz").text
    assert MANAGES in second.server.log.read_text()
    assert containers.is_running(name)
    containers.touch(name, "/go")
    working.join()
    assert answers[0].text == "working on: a letter\ndone\n"
    assert MANAGES not in first.log.read_text()
    wait_for(lambda: EngineStatus.objects.exclude(refused_neighbour=""), what="the first one's page to say so, too")


def test_a_kill_changes_nothing_and_take_over_changes_everything(first, second, containers, docker_api):
    name, owner = containers.create(idle_timeout="1h", **WORK), identity_of_mark(docker_api)
    first.kill()
    assert code_of(second.server, name) == (503, "neighbour")
    first.start().wait_until_up()
    assert code_of(first, name) == (200, None)
    assert "Taken over from: installation" in second.manage("take_over")
    assert "Nothing was taken over" in second.manage("take_over")
    assert identity_of_mark(docker_api) != owner
    wait_for(lambda: code_of(second.server, name) == (200, None), what="the second one to work")
    wait_for(lambda: code_of(first, name) == (503, "neighbour"), what="the first one to notice")
    wait_for(lambda: neighbour_of(first), what="the first one's page to say so")
    assert containers.is_running(name)


def test_a_mark_that_was_removed_is_made_anew_by_its_owner(first, second, docker_api):
    owner = identity_of_mark(docker_api)
    docker_api.remove_volume(MARK)

    def is_back():
        try:
            return identity_of_mark(docker_api) == owner
        except NotFound:
            return False

    wait_for(is_back, what="the mark")
    assert neighbour_of(first) == ""
    assert neighbour_of(second.server)


def test_installations_with_scopes_are_no_neighbours(serve_docker, containers, docker_api, tmp_path):
    scopes = ("team-a", "team-b")
    names = [containers.create(scope=scope, idle_timeout="1h", **WORK) for scope in scopes]
    servers = [
        serve_docker(DORMOUSE_SCOPE="team-a"),
        Installation(tmp_path, serve_docker, DORMOUSE_SCOPE="team-b").server,
    ]
    assert [code_of(server, name) for server, name in zip(servers, names, strict=True)] == [(200, None)] * 2
    assert [neighbour_of(server) for server in servers] == ["", ""]
    assert len({identity_of_mark(docker_api, scope) for scope in scopes}) == 2


KILLED = """
import os, signal, django
django.setup()
from lifecycle.clock import Clock
from lifecycle.engines.docker.engine import DockerEngine
from lifecycle.workers.neighbours import Neighbours
class Engine(DockerEngine):
    def remove_mark(self):
        super().remove_mark()
        os.kill(os.getpid(), signal.SIGKILL)
Neighbours(Engine(), Clock()).take_over()
"""


def test_a_take_over_that_is_killed_half_way_leaves_one_owner(first, second, docker_api):
    owner = identity_of_mark(docker_api)
    environment = os.environ | second.environment
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=PROJECT, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    wait_for(lambda: docker_api.volumes(filters={"name": MARK})["Volumes"], what="the first one to make it anew")
    assert identity_of_mark(docker_api) == owner
    assert "Taken over" in second.manage("take_over")


def test_a_filter_that_forbids_volumes_is_said_once_and_agents_work(behind_proxy, proxy, containers, caplog):
    name = containers.create()
    proxy.answer("POST", r"/volumes/create", Canned(403, "<html>Forbidden</html>", "text/html"))
    for _ in range(2):
        behind_proxy.waking.wake(name)
        behind_proxy.neighbours.look()
    said = [record.getMessage() for record in caplog.records if "No mark can be kept" in record.getMessage()]
    assert len(said) == 1, said
    assert "refused with 403, probably by a filter" in said[0]


def test_an_engine_that_is_away_for_a_moment_makes_no_neighbour(behind_proxy, proxy):
    neighbours: Neighbours = behind_proxy.neighbours
    neighbours.look_and_check()
    proxy.answer("GET", r"/volumes/", Canned(502, "<html>Bad gateway</html>", "text/html"))
    neighbours.look_and_check()
    assert neighbours.unguarded == ""


def test_filters_that_forbid_only_looking_leave_it_unguarded_too(behind_proxy, proxy):
    proxy.answer("GET", r"/volumes/", Canned(403, "<html>Forbidden</html>", "text/html"))
    behind_proxy.neighbours.look_and_check()
    assert "403" in behind_proxy.neighbours.unguarded
