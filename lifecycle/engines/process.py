"""Local processes as instances, named in a TOML file: one table an instance.

    [reviewer-default]
    command = "python -m reviewer"
    port = 9001
    idle-timeout = "15m"

The keys are those of the labels, without the prefix, and `command`. The child inherits a locked file: locked means
running, for every process and across restarts, without guessing by pid.
"""

import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from lifecycle.engines import labels
from lifecycle.engines.base import Engine, Inspection, ListedInstance
from lifecycle.engines.runfile import RunFile
from lifecycle.exceptions import Cause, EngineUnreachable, LabelError, Missing, StartRejected

#: Writes which process it is into the locked file, whose number is $0, then becomes the command. Its parent cannot do
#: that for it: killed in between, it would leave a running child that nobody can name.
LAUNCHER = 'read -r stat 2> /dev/null < /proc/$$/stat || stat=$$; echo "$stat" >> "/dev/fd/$0"; exec "$@"'

POLL_SECONDS = 0.02
KILL_SECONDS = 10
REAP_SECONDS = 1
#: As a file's name has room for, with its ending; a character beyond ASCII takes up to twelve.
MAX_NAME = 200
TAIL_BYTES = 64 * 1024
#: Variables that are Dormouse's own.
OURS = ("DORMOUSE_", "DJANGO_", "DATABASE_URL")


class ProcessEngine(Engine):
    """Runs what `agents_file` names; keeps locks and output in `run_dir`. Without a file it has no instances."""

    name = "process"

    def __init__(self, agents_file: Path | None, run_dir: Path) -> None:
        self._agents_file = agents_file
        self._run_dir = run_dir
        self._reapers: dict[str, threading.Thread] = {}

    def instances(self) -> list[ListedInstance]:
        return [
            ListedInstance(name, id=name, running=self._file(name).is_locked(), labels=_read_as(table))
            for name, table in self._agents().items()
        ]

    def inspect(self, name: str) -> Inspection:
        read = self._read(name, self._table(name))
        run = self._file(name)
        running = run.is_locked()
        if not running and name in self._reapers:
            self._reapers[name].join(REAP_SECONDS)
        port = None if isinstance(read, LabelError) else read.port
        return Inspection(
            name=name,
            id=name,
            running=running,
            incarnation=run.incarnation(),
            labels=read,
            address=("127.0.0.1", port) if port and running else None,
            exit_code=None if running else run.exit_code(),
            warnings=tuple(f"{key} is no key of an instance" for key in labels.unknown(_labels(self._table(name)))),
        )

    def start(self, name: str) -> None:
        command = _command(name, self._table(name))
        self._check_executable(command[0])
        run = self._file(name)
        with run.lock() as lock:
            if lock is None:
                return  # it runs already; as `docker start`, no error
            token = run.begin(lock)
            try:
                process = self._spawn(command, lock, run)
            except OSError as error:
                raise StartRejected(Cause.START_REJECTED, f"its process cannot be made: {error.strerror}") from error
            # Still locked, so that nobody who finds it over misses its exit code.
            reaper = threading.Thread(target=lambda: run.keep_exit_code(token, process.wait()), daemon=True)
            reaper.start()
            self._reapers[name] = reaper

    def stop(self, name: str, grace_seconds: float) -> None:
        run = self._file(name)
        for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, KILL_SECONDS)):
            deadline = time.monotonic() + seconds
            sent = False
            while run.is_locked():
                sent = sent or run.signal(number)  # not while it is just being started, and has no name yet
                if time.monotonic() >= deadline:
                    break
                time.sleep(POLL_SECONDS)
            else:
                return
        raise EngineUnreachable(f"the process of {name} does not end, not even killed")

    def output(self, name: str, lines: int, mark: str = "") -> str:
        try:
            with self._file(name).output.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "".join(text.splitlines(keepends=True)[-lines:]) if lines else ""

    def _check_executable(self, program: str) -> None:
        """As Docker does: a program that is not there is refused, with the exit code that a shell gives."""
        path = self._folder / program  # where it has a slash, else it is looked for in PATH
        if shutil.which(str(path) if "/" in program else program):
            return
        exists = "/" in program and path.exists()
        why = "may not be executed" if exists else "does not exist"
        raise StartRejected(Cause.START_REJECTED, f"its command {why}: {program}", 126 if exists else 127)

    def _spawn(self, command: list[str], lock: IO[bytes], run: RunFile) -> subprocess.Popen[bytes]:
        """In a session of its own: Ctrl-C is not for it, and it ends as a group. Our secrets are not for it either."""
        with run.output.open("wb") as output:
            return subprocess.Popen(
                ["/bin/sh", "-c", LAUNCHER, str(lock.fileno()), *command],
                cwd=self._folder,
                env={name: value for name, value in os.environ.items() if not name.startswith(OURS)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )

    @property
    def _folder(self) -> Path:
        """Where relative paths of a command begin."""
        assert self._agents_file is not None, "there are no instances without a file"
        return self._agents_file.resolve().parent

    def _agents(self) -> dict[str, Any]:
        if self._agents_file is None:
            return {}
        try:
            agents = tomllib.loads(self._agents_file.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise self._unreadable(error) from error
        strays = sorted(name for name, table in agents.items() if not isinstance(table, dict))
        if strays:
            raise self._unreadable(f"{', '.join(strays)} stands outside the table of an instance")
        long = [name for name in agents if len(quote(name, safe="")) > MAX_NAME]
        if long:
            raise self._unreadable(f"the name {long[0][:40]}… is too long")
        return agents

    def _unreadable(self, why: object) -> EngineUnreachable:
        return EngineUnreachable(f"the agents file {self._agents_file} cannot be read: {why}", was_asked=False)

    def _table(self, name: str) -> dict[str, Any]:
        agents = self._agents()
        if name not in agents:
            raise Missing(name)
        table: dict[str, Any] = agents[name]
        return table

    def _read(self, name: str, table: Mapping[str, Any]) -> labels.Labels | LabelError:
        try:
            _command(name, table)
            return labels.read(name, _labels(table))
        except LabelError as error:
            return error

    def _file(self, name: str) -> RunFile:
        self._run_dir.mkdir(parents=True, exist_ok=True)
        return RunFile(self._run_dir, quote(name, safe=""))


def _read_as(table: Mapping[str, Any]) -> dict[str, str]:
    """All that an observer reads anew when it changes: the labels, and the command that may be in error as well."""
    return _labels(table) | {"command": str(table.get("command", ""))}


def _labels(table: Mapping[str, Any]) -> dict[str, str]:
    """The keys of a table as labels; a number may be written as one."""
    return {f"{labels.PREFIX}{key}": str(value) for key, value in table.items() if key != "command"}


def _command(name: str, table: Mapping[str, Any]) -> list[str]:
    """Raises LabelError."""
    command = table.get("command", "")
    try:
        words = shlex.split(command) if isinstance(command, str) else list(map(str, command))
    except (TypeError, ValueError) as error:
        raise LabelError(name, "command", str(command), f"cannot be read: {error}") from None
    if not words:
        raise LabelError(name, "command", str(command), "is empty")
    return words
