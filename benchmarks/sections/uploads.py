"""What large uploads cost the web process, with access and without."""

import json
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.report import Section, Table, number
from benchmarks.servers import TOKEN, WebServer, dormouse
from lifecycle.engines.process.engine import ProcessEngine
from tests.servers import DEADLINE_SECONDS, free_port, wait_for

TITLE = "Uploads"
ABOUT = """\
`POST /api/instances/NAME/proxy/` with a long body to a local agent that reads it, from raw sockets on 127.0.0.1.
*Growth* is by how much the largest memory of the web process exceeded what it had before; one upload came before.
*/healthz* is asked meanwhile, one time after the other. With the wrong token the caller sends on until it is cut.
*nginx* is the same upload through Debian's nginx with one process and `proxy_request_buffering off`.
The goals: one upload makes the process grow by at most 1 MB, and /healthz answers within 100 ms."""
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


NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 0;
    location / {{ proxy_pass http://127.0.0.1:{agent}; proxy_http_version 1.1; proxy_request_buffering off; }}
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """nginx as the proxy, in one process."""

    port: int
    url: str
    process: "subprocess.Popen[bytes]"


def answers(url: str) -> bool:
    """Return whether there is an answer of the agent."""
    try:
        return httpx.get(url).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@contextmanager
def nginx(folder: Path) -> Iterator[Nginx]:
    """Start nginx, with an agent behind."""
    port, agent = free_port(), free_port()
    (folder / "agent.py").write_text(AGENT)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, agent=agent))
    command = [shutil.which("nginx") or "", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/nginx.log"]
    with (
        subprocess.Popen([sys.executable, "agent.py", str(agent)], cwd=folder) as behind,
        subprocess.Popen(command) as process,
    ):
        found = Nginx(port, f"http://127.0.0.1:{port}", process)
        try:
            wait_for(lambda: answers(found.url), what="nginx")
            yield found
        finally:
            process.kill()
            behind.kill()


@dataclass(frozen=True)
class Measured:
    """One row: the largest growth of the process, how long it took, and each answer of /healthz."""

    growth_mb: float
    seconds: float
    health_ms: list[float]


@contextmanager
def site(folder: Path, asgi_server: str) -> Iterator[WebServer]:
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


def upload(server: WebServer | Nginx, size: int, token: str = TOKEN) -> int:
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


def measure(server: WebServer | Nginx, work: Callable[[], object], at_once: int = 1) -> Measured:
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
    if shutil.which("nginx"):
        rows += measure_nginx(folder, size)
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
    return rows_of(asgi_server, found)


def measure_nginx(folder: Path, size: int) -> list[list[str]]:
    """Return the rows of nginx."""
    own = folder / "nginx"
    own.mkdir()
    with nginx(own) as server:
        measure(server, lambda: upload(server, 64 * MB))
        found = {
            (f"one of {size // MB} MB", size): measure(server, lambda: upload(server, size)),
            (f"four of {size // MB} MB at once", 4 * size): measure(server, lambda: upload(server, size), 4),
        }
    return rows_of("nginx", found)


def rows_of(name: str, measured: dict[tuple[str, int], Measured]) -> list[list[str]]:
    """Return the rows of one proxy. `measured` is by what was done, and how many bytes that sent."""
    return [
        [
            f"{name}, {what}",
            f"{number(one.growth_mb)} MB",
            f"{number(one.seconds)} s",
            f"{number(sent / MB / one.seconds)} MB" if sent else "",
            f"{number(statistics.median(one.health_ms))} ms" if one.health_ms else "",
        ]
        for (what, sent), one in measured.items()
    ]
