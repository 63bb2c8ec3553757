"""SIGTERM lets work in flight end, and refuses new work meanwhile, at a real web process."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from events.models import EventLog
from lifecycle.models import Lease, Worker
from tests.config.agents import agents_file
from tests.servers import DEADLINE_SECONDS, wait_for

pytestmark = pytest.mark.both_servers

PIECES = 20
#: An agent whose work ends when a file is there, so that all of it is in flight however slow the machine is.
WAITING = """
import pathlib, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        while not pathlib.Path("go").exists():
            time.sleep(0.05)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"done")

ThreadingHTTPServer.request_queue_size = 100  # of 20 connections at once, 5 would wait and the rest be tried 1 s later
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
"""


@pytest.fixture
def serve_with(serve, tmp_path):
    (tmp_path / "waiting.py").write_text(WAITING)
    with agents_file(tmp_path, waits="waiting.py") as environment:
        yield lambda drain: serve(**environment, DORMOUSE_DRAIN=drain)


def work(server, seconds, name="works"):
    """Send work that takes `seconds`. Return the answer, or None if the connection broke."""
    try:
        url = f"{server.url}/api/instances/{name}/dispatch"
        return httpx.post(url, content=str(seconds), headers=server.bearer, timeout=DEADLINE_SECONDS)
    except httpx.TransportError:
        return None


def is_draining(server):
    return httpx.get(f"{server.url}/readyz").status_code == 503


def read_events(server, bodies):
    with httpx.stream("GET", f"{server.url}/events", headers=server.bearer, timeout=DEADLINE_SECONDS) as answer:
        bodies.append("".join(answer.iter_text()))


def test_work_in_flight_gets_its_answers_and_streams_end_after_it(serve_with, tmp_path):
    server, bodies = serve_with("1h"), []
    reading = threading.Thread(target=read_events, args=(server, bodies))
    reading.start()
    with ThreadPoolExecutor(PIECES) as pool:
        answers = [pool.submit(work, server, 0, "waits") for _ in range(PIECES)]
        wait_for(lambda: Lease.objects.count_works() == PIECES, what="the work")
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: is_draining(server), what="the drain")
        refused = work(server, 0)
        assert (refused.status_code, refused.headers["Dormouse-Error"]) == (503, "draining")
        assert refused.headers["Connection"] == "close"
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        (tmp_path / "go").touch()
        assert [answer.result().text for answer in answers] == ["done"] * PIECES
    assert server.process.wait(DEADLINE_SECONDS) == 0
    reading.join()
    assert '"reason": "shutdown"' in bodies[0]
    assert (Lease.objects.count(), Worker.objects.count()) == (0, 0)
    assert not EventLog.objects.filter(type="work.failed").exists()
    assert "Traceback" not in server.log.read_text()


def test_a_dispatch_that_waits_for_its_wake_is_in_flight(serve_with):
    server = serve_with("60s")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(work, server, 0)
        wait_for(lambda: "POST" in server.log.read_text() or Lease.objects.exists() or started(), what="the dispatch")
        server.process.send_signal(signal.SIGTERM)
        assert answer.result().text == "done"
    assert server.process.wait(DEADLINE_SECONDS) == 0


def started():
    return EventLog.objects.filter(type="container.lazy_started").exists()


def test_without_work_it_ends_at_once(serve_with):
    server = serve_with("1h")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(DEADLINE_SECONDS) == 0


@pytest.mark.uvicorn_too
@pytest.mark.parametrize("how", ["the end of the time", "a second signal"])
def test_what_is_left_is_broken_off_and_told(serve_with, how):
    server = serve_with("1s" if how == "the end of the time" else "1h")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(work, server, 60)
        wait_for(lambda: Lease.objects.count() == 1, what="the work")
        server.process.send_signal(signal.SIGTERM)
        if how == "a second signal":
            wait_for(lambda: is_draining(server), what="the drain")
            server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE_SECONDS) == 0
        assert answer.result() is None
    assert "pieces of work" in server.log.read_text()
    failed = EventLog.objects.get(type="work.failed")
    assert failed.data["error"].startswith("was cut off after ")
    assert failed.data["error"].endswith(": Dormouse has ended")
    assert not Lease.objects.exists()
