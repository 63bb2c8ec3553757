"""PostgreSQL in trouble, under a web process that works: its connections end or are used up, or another takes over."""

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from tests.browser.proxy import Proxy
from tests.config.agents import agents_file
from tests.events.stream.listening import Follower
from tests.postgres.cluster import Cluster
from tests.postgres.conftest import MIGRATED
from tests.postgres.site import Site
from tests.postgres.test_listening import writing
from tests.servers import DEADLINE_SECONDS, wait_for

FROZEN_SECONDS = 45 if os.environ.get("DORMOUSE_LONG") else 5
TERMINATE = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""


@pytest.fixture
def agents(tmp_path):
    """Provide the settings of a web process with a supervisor and an agent."""
    with agents_file(tmp_path) as environment:
        yield environment | {"DORMOUSE_SUPERVISOR": "embedded", "DORMOUSE_ENGINE": "process"}


@pytest.fixture
def server(site, agents):
    site.environment |= agents
    return site.serve()


def status(server, method, path):
    try:
        headers = server.bearer
        return httpx.request(method, server.url + path, headers=headers, timeout=DEADLINE_SECONDS).status_code
    except httpx.TransportError as error:
        return type(error).__name__


def dispatch(server):
    return status(server, "POST", "/api/instances/works/dispatch")


def works_again(server):
    wait_for(lambda: status(server, "GET", "/readyz") == 200, what="the process to be ready")
    wait_for(lambda: dispatch(server) == 200, what="a dispatch")


def test_connections_that_are_terminated_again_and_again_harm_nothing(site, server):
    assert dispatch(server) == 200
    start = site.record()
    reader = Follower(server, start)
    stop_writing = writing(site)
    for _ in range(5):
        site.ask(TERMINATE)
        assert dispatch(server) in (200, 503)
    works_again(server)
    stop_writing()
    assert reader.result() == [id for id in site.ids() if id > start]
    wait_for(lambda: not site.ask("SELECT 1 FROM lifecycle_lease"), what="the leases to end")
    assert "Traceback" not in server.log.read_text()


def test_connections_that_are_used_up_are_said_and_waited_for(site, server):
    assert dispatch(server) == 200
    start = site.record()
    reader = Follower(server, start)
    wait_for(lambda: reader.connections, what="the reader")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(site.cluster.connected())
        wait_for(lambda: status(server, "GET", "/healthz") == 503, what="the health check")
        assert status(server, "GET", "/api/instances") == 503
        assert dispatch(server) in (200, 503)  # it may have a connection already
    works_again(server)
    stop_writing = writing(site)
    stop_writing()
    assert reader.result() == [id for id in site.ids() if id > start]
    assert "Traceback" not in server.log.read_text()


def test_a_database_that_is_frozen_stops_no_event_loop_and_is_waited_for(site, server):
    assert dispatch(server) == 200
    start = site.record()
    reader = Follower(server, start)
    wait_for(lambda: reader.connections, what="the reader")
    with ThreadPoolExecutor(5) as callers, site.cluster.frozen():
        waiting = [callers.submit(dispatch, server) for _ in range(5)]
        end = time.monotonic() + FROZEN_SECONDS
        while time.monotonic() < end:
            assert status(server, "POST", "/events") == 405  # the event loop alone answers this
            time.sleep(0.1)
    assert {one.result() for one in waiting} <= {200, 503}
    works_again(server)
    stop_writing = writing(site)
    stop_writing()
    assert reader.result() == [id for id in site.ids() if id > start]
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def failover(tmp_path, agents):
    """Provide a primary and its standby, a line that leads to the primary, and a site at the end of the line."""
    primary = Cluster().start()
    with primary.connected() as connection:
        connection.execute(f"CREATE DATABASE {MIGRATED}")
    with Proxy(primary.port) as line:
        site = Site(primary, MIGRATED, tmp_path)
        port = line.url.rpartition(":")[2]
        site.environment |= agents | {"DATABASE_URL": primary.url(MIGRATED).replace(f":{primary.port}/", f":{port}/")}
        site.run("from django.core.management import call_command\ncall_command('migrate', verbosity=0)").end()
        standby = Cluster(primary).start()
        yield site, line, standby
        site.stop()
        standby.remove()
    primary.remove()


def test_a_standby_that_is_promoted_takes_over(failover):
    site, line, standby = failover
    server = site.serve()
    assert dispatch(server) == 200
    start = site.record()
    reader = Follower(server, start)
    stop_writing = writing(site)
    wait_for(lambda: len(reader.seen) > 20, what="events")
    site.cluster.kill()
    standby.promote()
    line.target = standby.port
    line.cut()
    works_again(server)
    count = len(reader.seen)
    wait_for(lambda: len(reader.seen) > count + 20, what="events of the new primary")
    stop_writing()
    site.cluster = standby
    kept = [id for id in site.ids() if id > start]
    # Replication is asynchronous: the newest events of the old primary may be lost. Everything that is kept was sent.
    assert set(kept) <= set(reader.result())
    assert "Traceback" not in server.log.read_text()
