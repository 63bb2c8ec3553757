"""The files and the settings of the demo. It shares nothing with `make run`."""

import secrets
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from lifecycle.demo import agent
from lifecycle.engines.process.engine import ProcessEngine
from lifecycle.exceptions import EngineUnreachable

#: By agent: its boot time in ms, and N if every Nth start fails (0: none fails).
AGENTS = {"broken-default": (150, 2), "reviewer-default": (250, 0), "designer-default": (600, 0)}
TABLE = """\
[{name}]
command = {command}
port = {port}
start-timeout = "10s"
stop-timeout = "2s"
idle-timeout = "5s"
"""


class DemoSetup:
    """The demo's agents file, database, run files, token and password, in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self.token = secrets.token_urlsafe()
        self.password_file = folder / "admin-password"
        self._agents_file = folder / "agents.toml"
        self._run_dir = folder / "run"
        self._database = folder / "db.sqlite3"
        self._engine = ProcessEngine(self._agents_file, self._run_dir)

    def environment(self) -> dict[str, str]:
        """Return the settings of every process of the demo."""
        return {
            "DATABASE_URL": f"sqlite:///{quote(str(self._database))}",
            "DORMOUSE_ENGINE": "process",
            "DORMOUSE_AGENTS_FILE": str(self._agents_file),
            "DORMOUSE_RUN_DIR": str(self._run_dir),
            "DORMOUSE_SUPERVISOR": "embedded",
            "DORMOUSE_BASE_PATH": "",
            "DORMOUSE_API_TOKEN": self.token,
        }

    def write_agents(self) -> None:
        """Write the agents file, with ports that are free now."""
        tables = []
        for (name, (boot_ms, fails_every)), port in zip(AGENTS.items(), _free_ports(len(AGENTS)), strict=True):
            starts_file = self._folder / f"{name}.starts"
            words = [sys.executable, agent.__file__, f"--port={port}", f"--boot-ms={boot_ms}"]
            words += [f"--fails-every={fails_every}", f"--starts-file={starts_file}"]
            starts_file.unlink(missing_ok=True)  # counting begins again, so that each demo soon shows a failure
            tables.append(TABLE.format(name=name, command=f"'''{shlex.join(words)}'''", port=port))
        self._agents_file.write_text("\n".join(tables))

    def stop_agents(self) -> None:
        """Stop all agents, also those of an earlier demo that was killed."""
        try:
            running = [one.name for one in self._engine.instances() if one.running]
        except EngineUnreachable:  # at the first start there is no agents file yet
            return
        for name in running:
            self._engine.stop(name, grace_seconds=1)


def _free_ports(count: int) -> Iterator[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        ports = [one.getsockname()[1] for one in sockets]
    yield from ports
