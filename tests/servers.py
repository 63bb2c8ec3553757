"""Real web processes for the tests: started, asked, stopped and killed by their own pid."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

import httpx
from django.db import connection

T = TypeVar("T")
PROJECT = Path(__file__).resolve().parent.parent
DEADLINE_SECONDS = 60
#: Below those that Linux gives to outgoing connections (32768 to 60999), and those of a swarm (30000 to 32767).
FREE_PORTS = range(20000, 30000)
_returned_ports: set[int] = set()


def wait_for(condition: Callable[[], T], seconds: float = DEADLINE_SECONDS, what: str = "") -> T:
    """Return the first true value of `condition`. Fail the test if none comes in time."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what or condition}"
        time.sleep(0.02)
    return value


def free_port() -> int:
    """Return a port on which nothing listens, and which this process has not returned before.

    It is none of those that the kernel gives to outgoing connections: such a one may be in use again when the test
    listens on it.
    """
    while True:
        port = secrets.choice(FREE_PORTS)
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            if port not in _returned_ports:
                _returned_ports.add(port)
                return port


def database_url() -> str:
    """Return the URL of the test's database, for other processes."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    return "postgres://{USER}@{HOST}:{PORT}/{NAME}".format(**database)


class Server:
    """`python -m config.serve` in a process group of its own, with a log of its own."""

    TOKEN = "the-tests-token"

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.environment = os.environ | {"DORMOUSE_SUPERVISOR": "external", "DORMOUSE_DRAIN": "0"} | environment
        self.start()

    def start(self) -> Self:
        command = [sys.executable, "-m", "config.serve", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=PROJECT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def wait_until_up(self) -> Self:
        def is_up() -> bool:
            assert self.process.poll() is None, f"the server ended:\n{self.log.read_text()}"
            try:
                return httpx.get(f"{self.url}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(is_up, what="the server")
        return self

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.TOKEN}"}

    def kill(self) -> None:
        """Kill it with SIGKILL: no handler and no `finally` runs."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> Self:
        """Stop it, and start it again on the same port."""
        self.stop()
        return self.start().wait_until_up()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
