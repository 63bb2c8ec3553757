"""`manage.py dispatch` and `manage.py supervise`, as processes on the test's database."""

import getpass
import json
import os
import signal
import subprocess
import sys

import pytest

from events.models import EventLog
from lifecycle.engines.process.engine import ProcessEngine
from lifecycle.models import Lease, Worker
from tests.servers import PROJECT, database_url, free_port, wait_for

pytestmark = pytest.mark.server
NAME = "reviewer-default"
#: Echoes its work; work that is a number is the status of the answer.
AGENT = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        work = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(work) if work.isdigit() else 200)
        self.end_headers()
        self.wfile.write(work + b" of " + self.headers["Content-Type"].encode())

HTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
"""


@pytest.fixture
def manage(transactional_db, tmp_path):
    """`manage("dispatch", NAME)` begins the command; `communicate` ends it."""
    (tmp_path / "agent.py").write_text(AGENT)
    port = free_port()
    agents = tmp_path / "agents.toml"
    command = json.dumps([sys.executable, "agent.py", str(port)])
    agents.write_text(f"[{NAME}]\ncommand = {command}\nport = {port}\n[fails]\ncommand = 'false'\nport = 1\n")
    environment = os.environ | {
        "DATABASE_URL": database_url(),
        "DORMOUSE_ENGINE": "process",
        "DORMOUSE_AGENTS_FILE": str(agents),
        "DORMOUSE_RUN_DIR": str(tmp_path / "run"),
    }
    started = []

    def begin(*arguments):
        process = subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    begin.environment = environment  # type: ignore[attr-defined]
    begin.engine = lambda: ProcessEngine(agents, tmp_path / "run")  # type: ignore[attr-defined]
    yield begin
    for process in started:
        process.kill()
        process.communicate()
    ProcessEngine(agents, tmp_path / "run").stop(NAME, 5)


def dispatched(manage, *arguments, name=NAME, given=b""):
    process = manage("dispatch", name, *arguments)
    output, errors = process.communicate(given, timeout=300)
    return process.returncode, output.decode(), errors.decode()


def test_a_dispatch_wakes_and_writes_the_answer(manage):
    assert dispatched(manage, "--data", "work")[:2] == (0, "work of application/octet-stream")
    assert EventLog.objects.get().type == "container.lazy_started"


def test_a_dispatch_tells_who_ran_the_command_and_what_for(manage):
    assert dispatched(manage, "--for", "PR 812 · nachts")[0] == 0
    data = EventLog.objects.get().data
    assert (data["by"], data["by_kind"], data["for"]) == (getpass.getuser(), "command", "PR 812 · nachts")


def test_work_is_read_from_a_file(manage, tmp_path):
    (tmp_path / "work").write_bytes(b"from a file")
    answer = dispatched(manage, "--data", f"@{tmp_path}/work", "--content-type", "text/plain")
    assert answer[:2] == (0, "from a file of text/plain")


def test_work_is_read_from_standard_input(manage):
    assert dispatched(manage, "--data", "-", given=b"piped")[:2] == (0, "piped of application/octet-stream")


def test_a_file_that_cannot_be_read_is_named(manage, tmp_path):
    code, _, errors = dispatched(manage, "--data", f"@{tmp_path}/no")
    assert (code, errors) == (1, f"CommandError: {tmp_path}/no cannot be read: No such file or directory\n")


@pytest.mark.parametrize(("status", "phrase"), [("404", " Not Found"), ("599", "")])
def test_an_answer_that_is_an_error_is_written_and_ends_with_1(manage, status, phrase):
    code, output, errors = dispatched(manage, "--data", status)
    assert (code, output) == (1, f"{status} of application/octet-stream")
    assert errors.endswith(f"CommandError: {NAME} answered {status}{phrase}\n")


def test_an_unknown_instance_ends_with_1_and_says_so(manage):
    code, output, errors = dispatched(manage, name="nobody")
    assert (code, output) == (1, "")
    assert "CommandError: No instance is called nobody." in errors


def test_a_failed_start_ends_with_1_and_its_reason(manage):
    code, _, errors = dispatched(manage, name="fails")
    assert code == 1
    assert errors.endswith("CommandError: fails failed to start: exited with code 1 before it was ready\n")


def test_a_dispatch_leaves_no_lease_and_no_worker(manage):
    dispatched(manage)
    assert not Lease.objects.exists()
    assert not Worker.objects.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_supervise_ends_at_a_signal_and_leaves(manage, number):
    process = manage("supervise")
    wait_for(Worker.objects.exists)
    while b"Supervising the process engine" not in process.stderr.readline():  # then it is ready to be ended
        assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"Traceback" not in errors
    assert not Worker.objects.exists()
