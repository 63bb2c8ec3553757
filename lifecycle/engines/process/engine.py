"""Local processes as instances. The agents file names them (agents_file.py).

Each process has a keeper (keeper.py), which holds a locked file. As long as that file is locked the instance runs:
every process can see that, also after a restart, and no pid is guessed.
"""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from access.files import private_files
from lifecycle.engines import labels
from lifecycle.engines.base import Engine, HeardEnd, Inspection, ListedInstance, Outcome, Phase
from lifecycle.engines.process import agents_file as agents
from lifecycle.engines.process import keeper, listeners
from lifecycle.engines.process.agents_file import AgentsFile
from lifecycle.engines.process.run_file import RunFile
from lifecycle.exceptions import Cause, EngineRefused, EngineUnreachable, LabelError, StartRejected

POLL_SECONDS = 0.02
FREEZE_POLL_SECONDS = 0.001
ANOTHER_USERS = "one of its processes belongs to another user, and cannot be sent signals"
#: How long a killed process may take to end.
KILL_SECONDS = 10
#: How many incarnations are remembered.
MAX_INCARNATIONS = 1000
TAIL_BYTES = 64 * 1024
#: What a person can do about an error of the run directory.
REMEDIES = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "free space on its disk",
    errno.EACCES: "correct its owner and mode",
    errno.EPERM: "correct its owner and mode",
    errno.EROFS: "mount its disk for writing",
    errno.ELOOP: "remove the link, which is not followed",
}
#: Prefixes of Dormouse's own environment variables, which an agent does not get, because they hold secrets.
OURS = ("DORMOUSE_", "DJANGO_", "DATABASE_URL", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")


class ProcessEngine(Engine):
    """Runs what `agents_file` names. Locks and output are in `run_dir`. Without an agents file it has no instances."""

    name = "process"
    key_prefix = ""

    def __init__(self, agents_file: Path | None, run_dir: Path) -> None:
        self._agents_file = AgentsFile(agents_file)
        self._run_dir = run_dir
        #: The latest incarnations that were seen running.
        self._seen_running: deque[str] = deque(maxlen=MAX_INCARNATIONS)

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
        read = _keys(name, table)
        with _usable(self._run_dir):
            run_file = self._run_file(name)
            phase = _phase(run_file)
            running = phase is Phase.RUNNING
            is_alive = running or phase is Phase.PAUSED
            incarnation = run_file.incarnation()
            if is_alive:
                self._seen_running.append(incarnation)
            port = None if isinstance(read, LabelError) else read.port
            return Inspection(
                name=name,
                phase=phase,
                incarnation=incarnation,
                labels=read,
                addresses=(("127.0.0.1", port),) if port and running else (),
                exit_code=None if is_alive else run_file.exit_code(),
                ran_seconds=None if is_alive else run_file.ran_seconds(),
                warnings=tuple(agents.unknown_keys(table)),
            )

    def start(self, name: str) -> Outcome:
        """Start the process. If it runs already this does nothing, as `docker start`."""
        table = self._agents_file.table(name)
        command = agents.command_words(name, table)
        self._check_executable(command[0])
        port = agents.read_table(name, table).port
        with _usable(self._run_dir):
            self._make_run_dir()
            run_file = self._run_file(name)
            with run_file.lock() as lock:
                if not lock and run_file.is_frozen():
                    raise StartRejected(f"it is paused; resume its processes with: kill -CONT {_pids(run_file)}")
                if not lock:
                    return Outcome.ALREADY_SO
                _check_port(port)
                self._start_locked(command, lock, run_file)
                return Outcome.DONE

    def stop(self, name: str, grace_seconds: float) -> Outcome:
        """Send SIGTERM to all processes of the instance, and SIGKILL after the grace. Frozen ones go on first."""
        with _usable(self._run_dir):
            run_file = self._run_file(name)
            if not run_file.is_locked():
                return Outcome.ALREADY_SO
            with suppress(PermissionError):  # SIGTERM meets the same error
                run_file.thaw()
            for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, KILL_SECONDS)):
                if _signal_and_wait(run_file, number, seconds):
                    return Outcome.DONE
        raise EngineRefused(_why_not_ended(name, run_file))

    def pause(self, name: str) -> Outcome:
        """Send SIGSTOP to all processes of the instance, but its keeper. If that cannot be done, let all go on."""
        with _usable(self._run_dir):
            run_file = self._run_file(name)
            was_paused = _phase(run_file) is Phase.PAUSED
            try:
                _freeze_and_wait(run_file)  # also if it was paused: that may have been begun and not finished
            except EngineRefused:
                with suppress(PermissionError):
                    run_file.thaw()
                raise
            return Outcome.ALREADY_SO if was_paused else Outcome.DONE

    def resume(self, name: str) -> Outcome:
        """Send SIGCONT to all processes of the instance."""
        with _usable(self._run_dir):
            run_file = self._run_file(name)
            if _phase(run_file) is not Phase.PAUSED:
                return Outcome.ALREADY_SO
            try:
                run_file.thaw()
            except PermissionError:
                raise EngineRefused(ANOTHER_USERS) from None
            return Outcome.DONE

    def check_listener(self, seen: Inspection) -> None:
        """Raise StartRejected if a socket that may get the instance's work belongs to none of its processes."""
        if seen.address is None:
            return
        port = seen.address[1]
        with suppress(PermissionError):  # a process that changed its user does not show its sockets
            strangers = listeners.find_listeners(port) - listeners.find_sockets(self._run_file(seen.name).processes())
            if strangers & listeners.find_listeners(port):  # a second look: it may have been ours, and closed since
                raise _port_conflict(port)

    def output(self, name: str, lines: int, mark: str = "") -> str:
        """Return the last lines of the output, which each start empties."""
        with _usable(self._run_dir):
            text = self._run_file(name).tail(TAIL_BYTES).decode(errors="replace")
        return "".join(text.splitlines(keepends=True)[-lines:]) if lines else ""

    def heard_end(self, incarnation: str) -> HeardEnd | None:
        """Return that no client made this engine send a signal, if an inspection has seen the incarnation running."""
        return HeardEnd() if incarnation in self._seen_running else None

    def _check_executable(self, program: str) -> None:
        """Raise StartRejected if the program does not exist, with the exit code that a shell gives, as Docker does."""
        path = self._agents_file.folder / program  # used if it has a slash; else the program is searched in PATH
        if shutil.which(str(path) if "/" in program else program):
            return
        code, why = 127, "does not exist: correct the key command" if "/" in program else "is in no folder of PATH"
        with suppress(FileNotFoundError, NotADirectoryError):
            try:
                if "/" in program and path.stat():
                    code, why = 126, "may not be executed: correct its mode"
            except PermissionError:
                code, why = 126, "cannot be reached: correct the mode of its folders"
        raise StartRejected(f"its command {program} {why}", exit_code=code)

    def _start_locked(self, command: list[str], lock: IO[bytes], run_file: RunFile) -> None:
        """Start the keeper, and return when the command runs. Raises StartRejected if it cannot be run."""
        process = self._spawn(command, lock, run_file, run_file.begin(lock))
        assert process.stdout is not None, "it is a pipe"
        with process.stdout as handshake:
            said = handshake.read().decode(errors="replace")
        threading.Thread(target=process.wait, name="keeper", daemon=True).start()  # or it would stay as a zombie
        if said.isdigit():
            number = int(said)
            why = f"its command cannot be run ({os.strerror(number)}): {command[0]}"
            raise StartRejected(why, exit_code=127 if number == errno.ENOENT else 126)
        if said:
            raise StartRejected(f"its keeper failed: {said.splitlines()[-1]}")

    def _spawn(self, command: list[str], lock: IO[bytes], run_file: RunFile, token: str) -> subprocess.Popen[bytes]:
        """Start a keeper in a session of its own, which Ctrl-C does not reach."""
        words = [sys.executable, "-IS", keeper.__file__, str(lock.fileno()), token, str(run_file.stem), *command]
        folder = self._agents_file.folder
        try:
            return subprocess.Popen(
                words,
                cwd=folder,
                env={name: value for name, value in os.environ.items() if not name.startswith(OURS)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                start_new_session=True,
                umask=-1 if private_files.original_umask is None else private_files.original_umask,
            )
        except OSError as error:
            if error.filename == str(folder):
                why = f"its folder {folder} cannot be opened ({error.strerror}): correct its owner and mode"
                raise StartRejected(why) from error
            raise StartRejected(f"its process cannot be made: {error.strerror}") from error

    def _make_run_dir(self) -> None:
        """Create the run directory for its owner alone. Raises EngineUnreachable if it belongs to another user."""
        private_files.make_private_folder(self._run_dir)
        owner = self._run_dir.stat().st_uid
        if owner != os.geteuid():
            why = f"the run directory {self._run_dir} belongs to user {owner}, who could replace its files"
            raise EngineUnreachable(f"{why}: make it yours: chown {os.geteuid()} {self._run_dir}", was_asked=False)

    def _run_file(self, name: str) -> RunFile:
        return RunFile(self._run_dir, quote(name, safe=""))


@contextmanager
def _usable(run_dir: Path) -> Iterator[None]:
    """Raise EngineUnreachable if the run directory cannot be used: it is full, or belongs to another user."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "correct that, or set DORMOUSE_RUN_DIR to another folder")
        place = f"{error.filename}: " if error.filename else ""
        why = f"the run directory {run_dir} cannot be used ({place}{error.strerror}): {remedy}"
        raise EngineUnreachable(why, was_asked=False) from error


def _keys(name: str, table: Mapping[str, Any]) -> labels.Labels | LabelError:
    try:
        return agents.read_table(name, table)
    except LabelError as error:
        return error


def _phase(run_file: RunFile) -> Phase:
    if run_file.is_locked():
        return Phase.PAUSED if run_file.is_frozen() else Phase.RUNNING
    return Phase.EXITED if run_file.incarnation() else Phase.CREATED


def _signal_and_wait(run_file: RunFile, number: int, seconds: float) -> bool:
    """Signal the processes of an instance, and wait until they have ended. Return False if they have not in time."""
    deadline = time.monotonic() + seconds
    sent = False
    while run_file.is_locked():
        # SIGKILL is sent again and again, because a process may have forked meanwhile. No keeper is named at first.
        if not sent or number == signal.SIGKILL:
            with suppress(PermissionError):  # `_why_not_ended` says so
                sent = run_file.signal(number)
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _freeze_and_wait(run_file: RunFile) -> None:
    """Freeze the processes of an instance, also those that one of them starts meanwhile. Raises EngineRefused."""
    deadline = time.monotonic() + KILL_SECONDS
    while run_file.is_locked():
        try:
            if run_file.freeze():
                return
        except PermissionError:
            raise EngineRefused(ANOTHER_USERS) from None
        if time.monotonic() >= deadline:
            raise EngineRefused(f"its processes are not frozen after {KILL_SECONDS} s")
        time.sleep(FREEZE_POLL_SECONDS)
    raise EngineRefused("its process does not run")


def _pids(run_file: RunFile) -> str:
    return " ".join(map(str, reversed(run_file.processes())))


def _why_not_ended(name: str, run_file: RunFile) -> str:
    try:
        run_file.signal(signal.SIGKILL)
    except PermissionError:
        return f"a process of {name} does not end, because it belongs to another user: end it as that user"
    return f"the process of {name} does not end, not even killed"


def _check_port(port: int | None) -> None:
    """Raise StartRejected if another program listens on the port: it would get the agent's work."""
    if port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError as error:
            why = f"its port {port} may only be used by root: set another port"
            raise StartRejected(why) from error
        except OSError as error:
            raise _port_conflict(port) from error


def _port_conflict(port: int) -> StartRejected:
    why = f"its port {port} is taken by another program, which would get its work: stop that, or set another port"
    return StartRejected(why, Cause.PORT_CONFLICT)
