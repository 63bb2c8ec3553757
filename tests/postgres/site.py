"""Web processes and commands on a PostgreSQL database of their own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.postgres.cluster import Cluster
from tests.servers import PROJECT, Server

PAUSE = """
def pause(word):
    print(word, flush=True)
    input()
"""
RECORDER = """
import sys
from events.log import record
for _ in sys.stdin:
    print(record("a.b").id, flush=True)
"""


class Command:
    """Python in a process of its own, as `manage.py shell` runs it. It may `pause(word)` until it is told to go on."""

    def __init__(self, code: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "shell", "--no-imports", "-c", PAUSE + code],
            cwd=PROJECT,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def said(self) -> str:
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Wait for its end, which must be without an error, and return what it wrote."""
        out, errors = self.process.communicate()
        assert self.process.returncode == 0, errors
        return out


class Site:
    def __init__(self, cluster: Cluster, database: str, folder: Path) -> None:
        self.cluster, self.database, self.folder = cluster, database, folder
        self.environment = {"DATABASE_URL": cluster.url(database), "DORMOUSE_VAR_DIR": str(folder / "var")}
        self.servers: list[Server] = []
        self.commands: list[Command] = []
        self.recorder: Command | None = None

    def serve(self) -> Server:
        server = Server(self.environment, log=self.folder / f"server-{len(self.servers)}.log")
        self.servers.append(server)
        return server.wait_until_up()

    def run(self, code: str, query: str = "") -> Command:
        command = Command(code, self.environment | {"DATABASE_URL": self.environment["DATABASE_URL"] + query})
        self.commands.append(command)
        return command

    def record(self) -> int:
        """An event, from another process than those that serve; its id."""
        self.recorder = self.recorder or self.run(RECORDER)
        self.recorder.go_on()
        return int(self.recorder.said())

    def ask(self, statement: str, *values: Any) -> list[Any]:
        """The first column of what the database answers."""
        with self.cluster.connected(self.database) as connection:
            return [row[0] for row in connection.execute(statement, values or None).fetchall()]

    def ids(self) -> list[int]:
        return self.ask("SELECT id FROM event_log ORDER BY id")

    def listeners(self) -> list[int]:
        """The server processes behind the connections that LISTEN."""
        return self.ask(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN event_log'"
        )

    def stop(self) -> None:
        for server in self.servers:
            server.stop()
        for command in self.commands:
            if command.process.poll() is None:
                command.process.kill()
            command.process.communicate()
