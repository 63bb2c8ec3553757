"""The file that a local process keeps locked as long as it runs."""

import contextlib
import fcntl
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lifecycle.engines.process.keeper import OLDER_SUFFIX, descendants
from lifecycle.workers import processes

#: Another process holds the lock for a moment when it looks at the file, so a start tries again.
LOCK_TRIES = 50
LOCK_RETRY_SECONDS = 0.002


class RunFile:
    """The locked file of one instance.

    Its lines are a token that is new at each start, the `stat` of the keeper, and the pid of the command.
    Its output and its exit code are in files beside it. No link is followed, and only the owner can open the files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.stem = folder / name
        self.path = folder / f"{name}.lock"
        self.output = folder / f"{name}.log"
        self._older_output = folder / f"{name}.log{OLDER_SUFFIX}"
        self._exit_code = folder / f"{name}.exit"

    def is_locked(self) -> bool:
        """Return whether a process runs."""
        try:
            with _open(self.path, "rb") as file:
                return not _try_lock(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def lock(self) -> Iterator[IO[bytes] | None]:
        """Lock the file, and provide it. It stays locked until every copy of the descriptor is closed.

        Provide None if a process runs.
        """
        with _open(self.path, "ab") as file:
            for _ in range(LOCK_TRIES):
                if _try_lock(file, fcntl.LOCK_EX):
                    yield file
                    return
                time.sleep(LOCK_RETRY_SECONDS)
            yield None

    def begin(self, lock: IO[bytes]) -> str:
        """Write the token of a new incarnation to the locked file, empty the output, and return the token."""
        token = str(uuid.uuid4())
        lock.truncate(0)
        lock.write(f"{token}\n".encode())
        lock.flush()
        self._older_output.unlink(missing_ok=True)
        _open(self.output, "wb").close()
        return token

    def incarnation(self) -> str:
        """Return the token of the latest start. Empty: there was none."""
        return (self._lines() or [""])[0]

    def keeper(self) -> int | None:
        """Return the pid of the keeper, or None if it is not written yet, or has ended."""
        stat = (self._lines()[1:] or [""])[0]
        pid = stat.split(" ")[0]
        started = processes.parse_start_ticks(stat)
        return int(pid) if pid.isdigit() and started and processes.start_ticks(int(pid)) == started else None

    def processes(self) -> list[int]:
        """Return the pids of the command and all its descendants."""
        keeper = self.keeper()
        return descendants(keeper) if keeper else []

    def signal(self, number: int) -> bool:
        """Send a signal: SIGKILL to every process of the instance, another one to its keeper, which passes it on.

        Return False if the keeper has not begun yet. Raises PermissionError if a process belongs to another user.
        """
        keeper = self.keeper()
        if keeper is None:
            return self._signal_orphans(number)
        refused: PermissionError | None = None
        for pid in descendants(keeper) if number == signal.SIGKILL else [keeper]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
            except PermissionError as error:
                refused = error
        if refused:
            raise refused
        return True

    def freeze(self) -> bool:
        """Send SIGSTOP to every process of the instance. Return whether all are frozen and none came meanwhile.

        Parents come first, so that no parent sees its child stop. Raises PermissionError.
        """
        pids = self.processes()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        is_frozen = bool(pids) and all(processes.is_frozen(pid) is not False for pid in pids)
        return is_frozen and set(self.processes()) <= set(pids)

    def thaw(self) -> None:
        """Send SIGCONT to every process of the instance, children first. Raises PermissionError."""
        for pid in reversed(self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def is_frozen(self) -> bool:
        """Return whether the command is frozen; or, if it has ended and left processes behind, each of those."""
        command = int((self._lines()[2:] or ["0"])[0])
        is_frozen = processes.is_frozen(command) if command else False
        if is_frozen is None:
            left = [processes.is_frozen(pid) for pid in self.processes()]
            return True in left and False not in left
        return is_frozen

    def _signal_orphans(self, number: int) -> bool:
        """Signal the command's group. If the keeper was killed, the command was too, but others may be left."""
        command = int((self._lines()[2:] or ["0"])[0])
        if not command or processes.start_ticks(command) is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command, number)
        return True

    def exit_code(self) -> int | None:
        """Return the exit code of the latest incarnation. None: its keeper was killed before it."""
        try:
            token, code = self._exit_code.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return int(code) if token == self.incarnation() else None

    def tail(self, size: int) -> bytes:
        """Return about the last `size` bytes of the output, with the end of the older file if the new one is short."""
        found = b""
        for path in (self.output, self._older_output):
            with contextlib.suppress(FileNotFoundError), _open(path, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - (size - len(found))))
                found = file.read() + found
            if len(found) >= size:
                break
        return found

    def ran_seconds(self) -> float | None:
        """Return how long the latest incarnation ran, up to when its exit code was kept. None: that is not known."""
        if self.exit_code() is None:
            return None
        return max(0, self._exit_code.stat().st_mtime - self.path.stat().st_mtime)

    def _lines(self) -> list[str]:
        try:
            with _open(self.path, "rb") as file:
                return file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []


def _open(path: Path, mode: str) -> IO[bytes]:
    return open(path, mode, opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))


def _try_lock(file: IO[bytes], mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
