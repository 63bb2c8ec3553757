"""A PostgreSQL server for the tests alone: its own folder, port and process."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psycopg

from tests.servers import DEADLINE_SECONDS, free_port, wait_for

USER = "dormouse"
#: A crash of the machine is not what is tested, and a test's database need not survive one.
OPTIONS = {"fsync": "off", "max_connections": "200", "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}


def programs() -> Path | None:
    """Return the folder of initdb and postgres, which Debian does not put on the PATH."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found += [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    return max(found, default=None)


class Cluster:
    """A PostgreSQL cluster, or a standby of one that runs.

    If the tests run as root, it runs as another user, because PostgreSQL refuses root.
    """

    def __init__(self, primary: "Cluster | None" = None) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="dormouse-postgres-"))
        self.user = pwd.getpwnam("postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)
        os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        self._data = self.folder / "data"
        if primary:
            source = f"host=127.0.0.1 port={primary.port} user={USER}"
            made = self._run("pg_basebackup", "-d", source, "-D", self._data, "-R", "--checkpoint=fast", "--no-sync")
        else:
            locale = ("-E", "UTF8", "--locale=C")
            made = self._run("initdb", "-D", self._data, "-U", USER, "-A", "trust", *locale, "--no-sync")
        assert made.wait() == 0, self._log.read_text()

    def start(self) -> Self:
        options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
        self.process = self._run("postgres", "-D", self._data, "-p", str(self.port), *options)
        wait_for(self._is_up, what="PostgreSQL")
        return self

    def stop(self) -> None:
        """Stop at once, without waiting for clients."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(DEADLINE_SECONDS)

    def kill(self) -> None:
        """Stop as in a crash. What is committed is recovered at the next start."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(DEADLINE_SECONDS)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let none of its processes do anything inside the block, and close no connection."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        processes = [self.process.pid, *map(int, children)]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def promote(self) -> None:
        """Make a standby the primary, when everything that has reached it is applied."""
        with self.connected() as connection:
            connection.execute("SELECT pg_promote()")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        return f"postgres://{USER}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def connected(self, database: str = "postgres") -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.url(database).replace("postgres:", "postgresql:", 1), autocommit=True) as connection:
            yield connection

    def _is_up(self) -> bool:
        assert self.process.poll() is None, f"PostgreSQL ended:\n{self._log.read_text()}"
        try:
            with self.connected():
                return True
        except psycopg.OperationalError:
            return False

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _run(self, program: str, *arguments: object) -> subprocess.Popen[bytes]:
        as_user: dict[str, Any] = (
            {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(Path(str(programs())) / program), *map(str, arguments)],
                cwd="/",
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **as_user,
            )
