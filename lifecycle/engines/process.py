"""Local processes as instances. The agents file names them (agents_file.py).

The child process inherits a locked file. As long as that file is locked the instance runs: every process can see that,
also after a restart, and no pid is guessed.
"""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

from access import private_files
from lifecycle.engines import agents_file as agents
from lifecycle.engines import labels
from lifecycle.engines.agents_file import AgentsFile
from lifecycle.engines.base import Engine, Inspection, ListedInstance, Outcome, Phase
from lifecycle.engines.run_file import RunFile
from lifecycle.exceptions import Cause, EngineRefused, EngineUnreachable, LabelError, StartRejected

#: A shell script that writes its own `stat` into the locked file (its descriptor is $0), then becomes the command. The
#: parent does not do this: if it were killed in between, it would leave a running child that no process can name.
LAUNCHER = 'read -r stat 2> /dev/null < /proc/$$/stat || stat=$$; echo "$stat" >> "/dev/fd/$0"; exec "$@"'

POLL_SECONDS = 0.02
#: How long a killed process may take to end.
KILL_SECONDS = 10
#: How long an inspection waits for the exit code of a process that has just ended.
REAP_SECONDS = 1
TAIL_BYTES = 64 * 1024
#: Prefixes of Dormouse's own environment variables, which an agent does not get, because they hold secrets.
OURS = ("DORMOUSE_", "DJANGO_", "DATABASE_URL")


class ProcessEngine(Engine):
    """Runs what `agents_file` names. Locks and output are in `run_dir`. Without an agents file it has no instances."""

    name = "process"

    def __init__(self, agents_file: Path | None, run_dir: Path) -> None:
        self._agents_file = AgentsFile(agents_file)
        self._run_dir = run_dir
        #: By instance: the thread that waits for the process started last, and keeps its exit code.
        self._reapers: dict[str, threading.Thread] = {}

    def instances(self) -> list[ListedInstance]:
        """Return every table of the agents file."""
        with _usable(self._run_dir):
            return [
                ListedInstance(name, id=name, phase=_phase(self._run_file(name)), labels=agents.listed_labels(table))
                for name, table in self._agents_file.tables().items()
            ]

    def inspect(self, name: str) -> Inspection:
        """Return what the agents file and the run file say."""
        table = self._agents_file.table(name)
        read = agents.read_table(name, table)
        with _usable(self._run_dir):
            run_file = self._run_file(name)
            phase = _phase(run_file)
            running = phase is Phase.RUNNING
            if not running and name in self._reapers:
                self._reapers[name].join(REAP_SECONDS)
            port = None if isinstance(read, LabelError) else read.port
            return Inspection(
                name=name,
                phase=phase,
                incarnation=run_file.incarnation(),
                labels=read,
                addresses=(("127.0.0.1", port),) if port and running else (),
                exit_code=None if running else run_file.exit_code(),
                warnings=tuple(f"{key} is no key of an instance" for key in labels.unknown(agents.label_texts(table))),
            )

    def start(self, name: str) -> Outcome:
        """Start the process. If it runs already this does nothing, as `docker start`."""
        table = self._agents_file.table(name)
        command = agents.command_words(name, table)
        self._check_executable(command[0])
        port = labels.read(name, agents.label_texts(table)).port
        with _usable(self._run_dir):
            run_file = self._run_file(name)
            with run_file.lock() as lock:
                if not lock:
                    return Outcome.ALREADY_SO
                _check_port(port)
                self._start_locked(name, command, lock, run_file)
                return Outcome.DONE

    def stop(self, name: str, grace_seconds: float) -> Outcome:
        """Send SIGTERM to the process group, and SIGKILL after the grace."""
        run_file = self._run_file(name)
        if not run_file.is_locked():
            return Outcome.ALREADY_SO
        for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, KILL_SECONDS)):
            deadline = time.monotonic() + seconds
            sent = False
            while run_file.is_locked():
                # False while it is being started, and has not written its pid yet.
                sent = sent or run_file.signal(number)
                if time.monotonic() >= deadline:
                    break
                time.sleep(POLL_SECONDS)
            else:
                return Outcome.DONE
        raise EngineRefused(f"the process of {name} does not end, not even killed")

    def output(self, name: str, lines: int, mark: str = "") -> str:
        """Return the last lines of the output file, which each start empties."""
        try:
            with self._run_file(name).output.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "".join(text.splitlines(keepends=True)[-lines:]) if lines else ""

    def _start_locked(self, name: str, command: list[str], lock: IO[bytes], run_file: RunFile) -> None:
        token = run_file.begin(lock)
        try:
            process = self._spawn(command, lock, run_file)
        except OSError as error:
            raise StartRejected(f"its process cannot be made: {error.strerror}") from error
        # Started while the file is locked, so that an inspection that finds the process ended finds its exit code.
        reaper = threading.Thread(target=lambda: run_file.keep_exit_code(token, process.wait()), daemon=True)
        reaper.start()
        self._reapers[name] = reaper

    def _check_executable(self, program: str) -> None:
        """Raise StartRejected if the program does not exist, with the exit code that a shell gives, as Docker does."""
        path = self._agents_file.folder / program  # used if it has a slash; else the program is searched in PATH
        if shutil.which(str(path) if "/" in program else program):
            return
        exists = "/" in program and path.exists()
        why = "may not be executed" if exists else "does not exist"
        raise StartRejected(f"its command {why}: {program}", exit_code=126 if exists else 127)

    def _spawn(self, command: list[str], lock: IO[bytes], run_file: RunFile) -> subprocess.Popen[bytes]:
        """Start the process in a session of its own, which can be ended as a group, and which Ctrl-C does not reach."""
        with run_file.output.open("wb") as output:
            return subprocess.Popen(
                ["/bin/sh", "-c", LAUNCHER, str(lock.fileno()), *command],
                cwd=self._agents_file.folder,
                env={name: value for name, value in os.environ.items() if not name.startswith(OURS)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[lock.fileno()],
                start_new_session=True,
                umask=-1 if private_files.original_umask is None else private_files.original_umask,
            )

    def _run_file(self, name: str) -> RunFile:
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return RunFile(self._run_dir, quote(name, safe=""))


@contextmanager
def _usable(run_dir: Path) -> Iterator[None]:
    """Raise EngineUnreachable if the run directory cannot be used: it is full, or belongs to another user."""
    try:
        yield
    except OSError as error:
        why = (
            f"the run directory {run_dir} cannot be used ({error.strerror}): free space, or correct its owner and mode"
        )
        raise EngineUnreachable(why, was_asked=False) from error


def _phase(run_file: RunFile) -> Phase:
    if run_file.is_locked():
        return Phase.RUNNING
    return Phase.EXITED if run_file.incarnation() else Phase.CREATED


def _check_port(port: int | None) -> None:
    """Raise StartRejected if another program listens on the port: it would get the agent's work."""
    if port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            why = f"its port {port} is taken by another program ({error.strerror}); stop that, or set another port"
            raise StartRejected(why, Cause.PORT_CONFLICT) from error
