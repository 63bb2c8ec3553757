"""A web process that has no open files left, or no disk for its database, goes on when there is some again."""

import contextlib
import resource
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from events.log import record
from tests.config.agents import agents_file
from tests.config.database.test_changed_database import Site
from tests.events.stream.listening import listening
from tests.servers import DEADLINE_SECONDS, wait_for

pytestmark = [pytest.mark.server, pytest.mark.slow]
FILES = 64
DISK_BYTES = 16_000_000
TOLD = ["container.lazy_started", "container.lazy_stopped"]


@pytest.fixture
def agents(tmp_path):
    with agents_file(tmp_path) as environment:
        yield environment | {"DORMOUSE_SUPERVISOR": "embedded"}


def dispatch(server, work=b"0"):
    url = f"{server.url}/api/instances/works/dispatch"
    return httpx.post(url, content=work, headers=server.bearer, timeout=DEADLINE_SECONDS)


def is_healthy(server):
    try:
        return httpx.get(f"{server.url}/healthz", timeout=DEADLINE_SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def open_files(server):
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def test_open_files_that_are_used_up_end_nothing(serve, agents):
    server = serve(**agents)
    assert dispatch(server).status_code == 200
    with listening(server) as messages, contextlib.ExitStack() as strangers:
        assert next(messages).event == "stream-open"
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        for _ in range(2 * FILES):
            strangers.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        wait_for(lambda: open_files(server) >= FILES - 2, what="the files to be used up")
        record("a.b")
        assert next(message for message in messages if message.event != "keep-alive").event == "a.b"
        strangers.close()
        wait_for(lambda: is_healthy(server), what="the process to answer again")
        assert dispatch(server).status_code == 200
    assert server.process.poll() is None
    assert "Traceback" not in server.log.read_text(), server.log.read_text()


@pytest.fixture
def disk(tmp_path):
    """Provide a small disk of its own, for the database of `site`."""
    folder = tmp_path / "var"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", folder]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no disk can be mounted")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def full(disk):
    """Fill the disk."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    yield
    filler.unlink()


@pytest.fixture
def site(disk, tmp_path):
    """Provide a web process whose database is on the small disk, with an agent that sleeps after 2 s."""
    with agents_file(tmp_path) as environment:
        agents = Path(environment["DORMOUSE_AGENTS_FILE"])
        agents.write_text(agents.read_text() + 'idle-timeout = "2s"\n')
        site = Site(tmp_path)
        site.environment |= environment
        site.manage("migrate", "--verbosity", "0")
        site.serve()
        yield site
        site.server.stop()
        assert "Traceback" not in site.log(), site.log()


def state(site):
    return site.ask("SELECT state FROM lifecycle_instance WHERE name = 'works'")


def events(site):
    return site.ask("SELECT type FROM event_log WHERE instance = 'works' ORDER BY id")


def leases(site):
    return site.ask("SELECT 1 FROM lifecycle_lease")


def test_a_full_disk_at_a_start_leaves_nothing_half(site, disk):
    """If the claim could still be written, the dispatch waits until its outcome can be, too."""
    with ThreadPoolExecutor(1) as caller:
        with full(disk):
            answer = caller.submit(dispatch, site.server)
            wait_for(lambda: site.get("/healthz").status_code == 503, what="the health check")
        assert answer.result().status_code in (200, 503), answer.result().text
    wait_for(lambda: site.get("/healthz").status_code == 200, what="the health check")
    wait_for(lambda: dispatch(site.server).status_code == 200, what="a dispatch")  # one may join a start that failed
    wait_for(lambda: state(site) == ["asleep"], what="the stop")
    assert events(site)[-2:] == TOLD
    assert leases(site) == []


def test_a_full_disk_while_an_agent_answers_loses_neither_the_answer_nor_the_lease(site, disk):
    assert dispatch(site.server).status_code == 200
    wait_for(lambda: leases(site) == [], what="the lease of the first dispatch to end")
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(dispatch, site.server, b"3")
        wait_for(lambda: leases(site), what="the work")
        with full(disk):
            assert (answer.result().status_code, answer.result().text) == (200, "done")
            wait_for(lambda: site.get("/healthz").status_code == 503, what="the health check")
    wait_for(lambda: leases(site) == [], what="the lease to end")
    wait_for(lambda: state(site) == ["asleep"], what="the stop")
    assert events(site) in (TOLD, TOLD * 2)  # a slow machine may have put it to sleep between the two dispatches


def test_a_full_disk_at_a_stop_is_told_once(site, disk):
    assert dispatch(site.server).status_code == 200
    with full(disk):
        wait_for(lambda: site.get("/healthz").status_code == 503, what="the health check")
        assert events(site) == ["container.lazy_started"]
    wait_for(lambda: state(site) == ["asleep"], what="the stop")
    assert events(site) == TOLD
