"""Run Dormouse with three local agents, and dispatch work to them at random, until interrupted.

The agents are small HTTP servers that take a few hundred milliseconds to boot; one of them sometimes fails to. They are
put to sleep after five idle seconds, so that every kind of event appears within a minute. The data is in var/demo/.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from argparse import ArgumentParser
from itertools import chain
from typing import Any

import requests
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from lifecycle.demo.setup import AGENTS, DemoSetup

END_SECONDS = 10


class Command(BaseCommand):
    """The command `manage.py demo`."""

    help = __doc__
    requires_system_checks = []  # the demo's processes have settings of their own

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the port."""
        parser.add_argument("--port", type=int, default=8000, help="the port of the page (default %(default)s)")

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        """Start the web process, dispatch until interrupted, then end everything that was started."""
        _check_free(port)
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: ended.set())
        setup = DemoSetup(settings.VAR_DIR / "demo")
        setup.stop_agents()
        setup.write_agents()
        own = setup.environment()  # the operator's own database and token are not used, and neither are their files
        environment = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in own} | own
        self._prepare(setup, environment)
        server = _serve(port, environment)
        self.stdout.write(f"The Agents page is on http://127.0.0.1:{port}/agents/. Quit with Ctrl-C.")
        try:
            self._dispatch_at_random(f"http://127.0.0.1:{port}", setup.token, server, ended)
        finally:
            _end(server)
            setup.stop_agents()
        self.stdout.write("The demo and its agents have ended; the events are kept.")

    def _prepare(self, setup: DemoSetup, environment: dict[str, str]) -> None:
        for command in (["migrate", "--verbosity=0"], ["create_admin", f"--password-file={setup.password_file}"]):
            subprocess.run([sys.executable, "manage.py", *command], cwd=settings.BASE_DIR, env=environment, check=True)

    def _dispatch_at_random(
        self, url: str, token: str, server: subprocess.Popen[bytes], ended: threading.Event
    ) -> None:
        """Dispatch one piece of work at a time, some seconds apart: first to each agent once, then to any."""
        names = chain(AGENTS, iter(lambda: random.choice(list(AGENTS)), None))  # noqa: S311  # no secret
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the environment cannot reach this machine's own address
            session.headers["Authorization"] = f"Bearer {token}"
            while not ended.wait(random.uniform(1, 4)):  # noqa: S311  # no secret
                if server.poll() is not None:
                    raise CommandError(f"The web process ended with code {server.returncode}.")
                name = next(names)
                try:
                    session.post(f"{url}/api/instances/{name}/dispatch", data=b"a piece of work", timeout=60)
                except requests.RequestException as error:
                    if not ended.is_set():
                        self.stderr.write(f"The dispatch to {name} failed: {error}")


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(f"Port {port} cannot be used ({error.strerror}); choose another with PORT=.") from error


def _serve(port: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "config.serve", "--port", str(port)]
    environment = {"DORMOUSE_ACCESS_LOG": "false"} | environment
    return subprocess.Popen(command, cwd=settings.BASE_DIR, env=environment)


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
