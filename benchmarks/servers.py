"""The processes that are measured: web servers under daphne, and a process that records events."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from tests.servers import DEADLINE_SECONDS, PROJECT, free_port, wait_for

TOKEN = "the-benchmarks-token"
DORMOUSE = "config.asgi:application"


@dataclass(frozen=True)
class Cost:
    """The resources that one process uses, from /proc."""

    rss_bytes: int
    threads: int
    cpu_seconds: float


class WebServer:
    """An ASGI application on a port of its own, under daphne or uvicorn.

    Dormouse itself runs under the server that DORMOUSE_SERVER names.
    """

    def __init__(self, application: str, environment: dict[str, str], log: Path, asgi_server: str = "daphne") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(self.port), application]
        if asgi_server == "uvicorn":
            options = ["--port", str(self.port), "--loop", "asyncio", "--lifespan", "off", "--no-access-log"]
            command = [sys.executable, "-m", "uvicorn", *options, application]
        if application == DORMOUSE:
            command = [sys.executable, "-m", "config.serve", "--port", str(self.port)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=output, stderr=output)
        wait_for(self._is_up, what=application)

    def _is_up(self) -> bool:
        assert self.process.poll() is None, "the server ended"
        try:
            httpx.head(f"{self.url}/healthz")
        except httpx.TransportError:
            return False
        return True

    @property
    def cost(self) -> Cost:
        """The resources that the server uses now."""
        of_process = Path(f"/proc/{self.process.pid}")
        facts = dict(line.split(":", 1) for line in (of_process / "status").read_text().splitlines())
        user, system = (of_process / "stat").read_text().rpartition(")")[2].split()[11:13]
        return Cost(
            rss_bytes=int(facts["VmRSS"].split()[0]) * 1024,
            threads=int(facts["Threads"]),
            cpu_seconds=(int(user) + int(system)) / os.sysconf("SC_CLK_TCK"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()


class Publisher:
    """Records events in a process of its own: `benchmarks.load.publisher`."""

    def __init__(self, environment: dict[str, str]) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load.publisher"],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        self._process, self._orders, self._answers = process, process.stdin, process.stdout
        self.publish(0, 0)  # wait until it has started

    def publish(
        self, first: int, count: int, filler_bytes: int = 0, pause_seconds: float = 0, *, lifelike: bool = False
    ) -> list[int]:
        """Record events, each in a transaction of its own. Return when each commit had returned, in monotonic ns.

        They carry marks; if `lifelike`, they are events as Dormouse records them.
        """
        print(json.dumps([first, count, filler_bytes, pause_seconds, lifelike]), file=self._orders, flush=True)
        returned: list[int] = json.loads(self._answers.readline())
        return returned

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._orders.close()
        self._process.wait(DEADLINE_SECONDS)
        self._answers.close()


def dormouse_environment(database_url: str, **more: str) -> dict[str, str]:
    """Return the settings of a Dormouse process, with nothing of the caller's own."""
    inherited = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
    return inherited | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DJANGO_SECRET_KEY": "of no value",
        "DATABASE_URL": database_url,
        "DORMOUSE_ENGINE": "process",
        "DORMOUSE_SUPERVISOR": "external",
        "DORMOUSE_API_TOKEN": TOKEN,
        **more,
    }


def manage(environment: dict[str, str], *arguments: str) -> None:
    """Run a management command."""
    command = [sys.executable, "-m", "django", *arguments]
    subprocess.run(command, cwd=PROJECT, env=environment, check=True)


@contextmanager
def dormouse(folder: Path, database_url: str = "", **more: str) -> Iterator[tuple[WebServer, dict[str, str]]]:
    """Start a real web process on an empty database. Provide it and its environment."""
    environment = dormouse_environment(database_url or f"sqlite:///{folder}/dormouse-{time.monotonic_ns()}.db", **more)
    manage(environment, "migrate", "--verbosity", "0", "--skip-checks")
    with WebServer(DORMOUSE, environment, folder / "dormouse.log") as server:
        yield server, environment


def events_request(**headers: Any) -> bytes:
    """Return a `GET /events` with the token, as bytes."""
    fields = {"Host": "127.0.0.1", "Authorization": f"Bearer {TOKEN}", "Connection": "close", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET /events HTTP/1.1\r\n{lines}\r\n".encode()
