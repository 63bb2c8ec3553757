"""Two web processes behind a proxy with TLS."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from docker import APIClient

from tests.config.agents import agents_file
from tests.deploy.image import build_image, make_base
from tests.deploy.proxies import PROXIES, ReverseProxy, make_certificate
from tests.docker.support.engine import docker_api
from tests.servers import Server, database_url

__all__ = ["docker_api"]

#: Answers in pieces. It writes a piece when the test has made a file of its name, so that none is sent early.
PIECES = """
import pathlib, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        folder = pathlib.Path(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in ("one", "two", "three"):
            while not (folder / piece).exists():
                time.sleep(0.01)
            self.wfile.write(f"{len(piece):x}\\r\\n{piece}\\r\\n".encode())
        self.wfile.write(b"0\\r\\n\\r\\n")

    def log_message(self, format, *args):
        pass

ThreadingHTTPServer.request_queue_size = 100  # of 20 connections at once, 5 would wait and the rest be tried 1 s later
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
"""
#: Answers how many bytes its work has, and their sum.
COUNTS = """
import sys, zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        left = size = int(self.headers["Content-Length"])
        checksum = 0
        while left:
            part = self.rfile.read(min(left, 65536))
            left -= len(part)
            checksum = zlib.crc32(part, checksum)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{size} {checksum}".encode())

    def log_message(self, format, *args):
        pass

ThreadingHTTPServer.request_queue_size = 100  # of 20 connections at once, 5 would wait and the rest be tried 1 s later
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
"""
#: Sends each message of a WebSocket back. It closes with 4000 when it is told so.
ECHOES = """
import asyncio, http, sys
from websockets.asyncio.server import serve

def process(connection, request):
    return None if "Upgrade" in request.headers else connection.respond(http.HTTPStatus.OK, "ready")

async def handle(socket):
    async for message in socket:
        if message == "close":
            await socket.close(4000, "as asked")
        else:
            await socket.send(message)

async def main():
    async with serve(handle, "127.0.0.1", int(sys.argv[1]), process_request=process) as server:
        await server.serve_forever()

asyncio.run(main())
"""


@dataclass
class Site:
    """A proxy, and the web processes behind it."""

    proxy: ReverseProxy
    servers: list[Server]

    @property
    def url(self) -> str:
        return self.proxy.url

    @property
    def bearer(self) -> dict[str, str]:
        return self.servers[0].bearer

    def connect(self, **options: object) -> httpx.Client:
        """Return a client that trusts the proxy's certificate alone."""
        return httpx.Client(transport=httpx.HTTPTransport(verify=self.trust(), **options), timeout=20)  # type: ignore[arg-type]

    def trust(self) -> ssl.SSLContext:
        """Return a context that trusts the proxy's certificate alone."""
        return ssl.create_default_context(cafile=f"{self.proxy.certificate}.crt")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def start_site(
    django_db_setup: None, certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Site]:
    """Starts a site: `start_site(stack, "nginx", "/dormouse", processes=2)`. It ends with the stack."""

    def start(stack: ExitStack, name: str, base_path: str, processes: int = 1) -> Site:
        folder = tmp_path_factory.mktemp(name)
        programs = {"pieces": PIECES, "counts": COUNTS, "echoes": ECHOES}
        for agent, program in programs.items():
            (folder / f"{agent}.py").write_text(program)
        environment = stack.enter_context(agents_file(folder, **{agent: f"{agent}.py" for agent in programs}))
        environment |= {
            "DATABASE_URL": database_url(),
            "DJANGO_ALLOWED_HOSTS": "localhost",
            "DJANGO_HTTPS": "true",
            "DJANGO_SECRET_KEY": "x" * 50,
            "DORMOUSE_BASE_PATH": base_path,
            "DORMOUSE_TRUSTED_PROXIES": "127.0.0.1",
        }
        servers = [Server(environment, log=folder / f"server-{number}.log") for number in range(processes)]
        for server in servers:
            stack.callback(server.stop)
        for server in servers:
            server.wait_until_up()
        proxy = PROXIES[name](folder, certificate, [server.port for server in servers], base_path)
        stack.callback(proxy.stop)
        return Site(proxy.wait_until_up(), servers)

    return start


@pytest.fixture(scope="module", params=[f"{name}{path}" for name in PROXIES for path in ("/", "/dormouse/")])
def shared_site(request: pytest.FixtureRequest, start_site: Callable[..., Site]) -> Iterator[Site]:
    name, _, path = request.param.partition("/")
    with ExitStack() as stack:
        yield start_site(stack, name, f"/{path}".rstrip("/"), processes=2)


@pytest.fixture
def site(transactional_db: None, shared_site: Site) -> Site:
    """One site for all tests of a module, with an empty database for each test."""
    return shared_site


@pytest.fixture(scope="session")
def image(docker_api: APIClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of Dormouse's image, which `make image` has built."""
    make_base(docker_api, tmp_path_factory.mktemp("base") / "root")
    build_image()
    return "dormouse"
