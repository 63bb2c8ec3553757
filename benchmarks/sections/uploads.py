"""What large uploads cost the web process, with access and without."""

import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.report import Section, Table, number
from benchmarks.servers import TOKEN, Daphne, dormouse
from lifecycle.engines.process.engine import ProcessEngine
from tests.servers import DEADLINE_SECONDS, free_port

TITLE = "Uploads"
ABOUT = """\
`POST /api/instances/NAME/proxy/` with a long body to a local agent that reads it, from raw sockets on 127.0.0.1.
*Growth* is by how much the largest memory of the web process exceeded what it had before; one upload came before.
*/healthz* is asked meanwhile, one time after the other. With the wrong token the caller sends on until it is cut."""
MB = 1024 * 1024
PART = b"x" * (256 * 1024)
NAME = "reads"
AGENT = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer()

    def do_POST(self):
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 262144)))
        self.answer()

    def answer(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format, *arguments):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
"""


@dataclass(frozen=True)
class Measured:
    """One row: the largest growth of the process, how long it took, and each answer of /healthz."""

    growth_mb: float
    seconds: float
    health_ms: list[float]


@contextmanager
def site(folder: Path, asgi_server: str) -> Iterator[Daphne]:
    """Start a web process under `asgi_server`, with one agent."""
    agents, port = folder / "agents.toml", free_port()
    (folder / "agent.py").write_text(AGENT)
    command = json.dumps([sys.executable, "agent.py", str(port)])
    agents.write_text(f"[{NAME}]\ncommand = {command}\nport = {port}\n")
    settings = {"DORMOUSE_AGENTS_FILE": str(agents), "DORMOUSE_RUN_DIR": str(folder / "run")}
    try:
        with dormouse(folder, DORMOUSE_SERVER=asgi_server, **settings) as (server, _):
            yield server
    finally:
        ProcessEngine(agents, folder / "run").stop(NAME, 0)


def upload(server: Daphne, size: int, token: str = TOKEN) -> int:
    """Send `size` bytes, or until the connection is cut. Return the status of the answer."""
    head = f"POST /api/instances/{NAME}/proxy/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as connection:
        connection.sendall(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
        try:
            for _ in range(size // len(PART)):
                connection.sendall(PART)
            return int(connection.recv(65536).split()[1])
        except OSError:
            return 0


def measure(server: Daphne, work: Callable[[], object], at_once: int = 1) -> Measured:
    """Do `work` so many times at once, and watch the web process."""
    folder, health_ms = Path(f"/proc/{server.process.pid}"), []
    (folder / "clear_refs").write_text("5")  # forget the largest memory
    before, began = largest_mb(folder), time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    with httpx.Client(timeout=DEADLINE_SECONDS) as client:
        while any(thread.is_alive() for thread in threads):
            asked = time.monotonic()
            client.get(f"{server.url}/healthz")
            health_ms.append((time.monotonic() - asked) * 1000)
            time.sleep(0.05)
    return Measured(largest_mb(folder) - before, time.monotonic() - began, health_ms)


def largest_mb(folder: Path) -> float:
    return int((folder / "status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def run(folder: Path, quick: bool) -> Section:
    size = (64 if quick else 1024) * MB
    rows = [row for asgi_server in ("daphne", "uvicorn") for row in measure_server(folder, asgi_server, size)]
    return Section(TITLE, ABOUT, {"": Table(["", "growth", "took", "a second", "/healthz, median"], rows)})


def measure_server(folder: Path, asgi_server: str, size: int) -> list[list[str]]:
    """Return the rows of one server."""
    own = folder / asgi_server
    own.mkdir()
    with site(own, asgi_server) as server:
        assert upload(server, 8 * MB) == 200
        measure(server, lambda: upload(server, 64 * MB))
        found = {
            (f"one of {size // MB} MB", size): measure(server, lambda: upload(server, size)),
            (f"four of {size // MB} MB at once", 4 * size): measure(server, lambda: upload(server, size), 4),
            (f"one of {size // MB} MB with a wrong token", 0): measure(server, lambda: upload(server, size, "wrong")),
        }
    return [
        [
            f"{asgi_server}, {what}",
            f"{number(one.growth_mb)} MB",
            f"{number(one.seconds)} s",
            f"{number(sent / MB / one.seconds)} MB" if sent else "",
            f"{number(statistics.median(one.health_ms))} ms" if one.health_ms else "",
        ]
        for (what, sent), one in found.items()
    ]
