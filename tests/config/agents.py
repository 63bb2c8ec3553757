"""An agent of the process engine for the tests of a web process: it works as many seconds as its work says."""

import sys
from contextlib import contextmanager

from lifecycle.engines.process.engine import ProcessEngine
from tests.servers import free_port

AGENT = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        work = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(float(work or 0))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"done")

    def log_message(self, format, *args):
        pass

ThreadingHTTPServer.request_queue_size = 100  # of 20 connections at once, 5 would wait and the rest be tried 1 s later
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
"""


@contextmanager
def agents_file(folder, **programs):
    """Provide the settings of a web process that may wake `works`, and what `programs` names with what Python runs."""
    (folder / "agent.py").write_text(AGENT)
    path = folder / "agents.toml"
    tables = []
    for name, program in ({"works": "agent.py"} | programs).items():
        port = free_port()
        command = f"{sys.executable} {program} {port}"
        tables.append(f'[{name}]\ncommand = "{command}"\nport = {port}\nstop-timeout = "1s"\n')
    path.write_text("\n".join(tables))
    yield {"DORMOUSE_AGENTS_FILE": str(path), "DORMOUSE_RUN_DIR": str(folder / "run")}
    engine = ProcessEngine(path, folder / "run")
    for one in engine.instances():
        engine.stop(one.name, 0)
