"""A SQLite database that another process locks: what needs no write goes on meanwhile."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time

import httpx
import pytest
from django.db import OperationalError, connection

from lifecycle.models import Worker
from tests.servers import PROJECT, wait_for

HOLD_SECONDS = 144 if os.environ.get("DORMOUSE_LONG") else 10
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("DORMOUSE_TEST_DATABASE_URL" in os.environ, reason="SQLite alone has one writer for each file"),
]
HOLDER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
database.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked_by_another_process():
    command = [sys.executable, "-c", HOLDER, str(connection.settings_dict["NAME"])]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        yield
        holder.stdin.close()


class Waiting(threading.Thread):
    """A thread that writes to the database on its own connection, which has one more cursor in use."""

    def __init__(self, write):
        super().__init__(daemon=True)
        self.write = write
        self.error = None
        self.has_connection = threading.Event()
        self.may_write = threading.Event()
        self.start()
        self.has_connection.wait()

    def run(self):
        connection.ensure_connection()
        self.cursor = connection.connection.cursor()
        self.cursor.execute("SELECT 1 UNION SELECT 2").fetchone()
        self.has_connection.set()
        self.may_write.wait()
        try:
            self.write()
        except OperationalError as error:
            self.error = error
        finally:
            connection.close()


def begin():
    with connection.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")


@pytest.mark.parametrize("write", [begin, lambda: Worker.objects.update(heartbeat=0)], ids=["BEGIN", "UPDATE"])
def test_another_thread_finalises_a_cursor_while_its_connection_waits(monkeypatch, write):
    tries = threading.Semaphore(0)
    sleep = time.sleep
    monkeypatch.setattr("config.sqlite3.base.time.sleep", lambda seconds: tries.release() or sleep(seconds))
    with locked_by_another_process():
        waiting = Waiting(write)
        waiting.may_write.set()
        assert tries.acquire(timeout=60)
        waiting.cursor.close()
        assert waiting.is_alive()  # else this thread stood still for as long as the other one waited
    waiting.join()
    assert waiting.error is None


def test_a_writer_gives_up_after_the_timeout(settings, monkeypatch):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.05)
    connection.close()
    with locked_by_another_process(), pytest.raises(OperationalError, match="database is locked"):
        Worker.objects.update(heartbeat=0)
    connection.close()


def test_pages_streams_and_the_event_loop_go_on(serve, client, admin_user):
    server = serve(DORMOUSE_SUPERVISOR="embedded")
    client.force_login(admin_user)
    session = {"sessionid": client.cookies["sessionid"].value}
    with writers(server), locked_by_another_process():
        end = time.monotonic() + HOLD_SECONDS
        while time.monotonic() < end:
            with httpx.Client(base_url=server.url, headers=server.bearer, timeout=15) as http:
                assert http.post("/events").status_code == 405  # the event loop alone answers this
                assert http.get("/healthz").status_code in (200, 503)  # 503 when a heartbeat has waited for 20 s
                assert http.get("/api/instances").status_code == 200
                with http.stream("GET", "/events") as stream:
                    assert b"stream-open" in next(stream.iter_raw())
            assert httpx.get(f"{server.url}/agents/", cookies=session, timeout=15).status_code == 200
    assert "Traceback" not in server.log.read_text()


@contextlib.contextmanager
def writers(server):
    """Let people log in and programs dispatch work meanwhile, which all wait for the database."""
    ended = threading.Event()

    def log_in():
        with httpx.Client(base_url=server.url, timeout=120) as http:
            page = http.get("/accounts/login/")
            token = re.search('name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]
            form = {"username": "a", "password": "b", "csrfmiddlewaretoken": token}
            http.post("/accounts/login/", data=form, headers={"Referer": server.url})

    def dispatch():
        httpx.post(f"{server.url}/api/instances/unknown/dispatch", headers=server.bearer, timeout=120)

    def repeat(request):
        while not ended.is_set():
            with contextlib.suppress(httpx.HTTPError):
                request()

    threads = [threading.Thread(target=repeat, args=(request,), daemon=True) for request in [log_in, dispatch] * 3]
    for thread in threads:
        thread.start()
    yield
    ended.set()
    wait_for(lambda: not any(thread.is_alive() for thread in threads), 150, "the writers to end")
