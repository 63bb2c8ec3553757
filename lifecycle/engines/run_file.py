"""The file that a local process keeps locked as long as it runs."""

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lifecycle.workers import processes

#: Another process holds the lock for a moment when it looks at the file, so a start tries again.
LOCK_TRIES = 50
LOCK_RETRY_SECONDS = 0.002


class RunFile:
    """The locked file of one instance. It holds a token that is new at each start, then the `stat` of the process.

    Its output and its exit code are in files beside it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.lock"
        self.output = folder / f"{name}.log"
        self._exit_code = folder / f"{name}.exit"

    def is_locked(self) -> bool:
        """Return whether a process runs."""
        with self._open() as file:
            return not _try_lock(file, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def lock(self) -> Iterator[IO[bytes] | None]:
        """Lock the file, and provide it. It stays locked until every copy of the descriptor is closed.

        Provide None if a process runs.
        """
        with self._open() as file:
            for _ in range(LOCK_TRIES):
                if _try_lock(file, fcntl.LOCK_EX):
                    yield file
                    return
                time.sleep(LOCK_RETRY_SECONDS)
            yield None

    def begin(self, lock: IO[bytes]) -> str:
        """Write the token of a new incarnation to the locked file, and return it."""
        token = str(uuid.uuid4())
        lock.truncate(0)
        lock.write(f"{token}\n".encode())
        lock.flush()
        return token

    def incarnation(self) -> str:
        """Return the token of the latest start. Empty: there was none."""
        return (self._lines() or [""])[0]

    def signal(self, number: int) -> bool:
        """Send a signal to the process and its whole group.

        Return False if the file does not name the process yet, or the pid belongs to another process by now.
        """
        stat = (self._lines()[1:] or [""])[0]
        pid = stat.split(" ")[0]
        if not pid.isdigit() or processes.start_ticks(int(pid)) not in (None, processes.parse_start_ticks(stat)):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(pid), number)
        return True

    def keep_exit_code(self, token: str, code: int) -> None:
        """Write the exit code of the incarnation `token`. If a signal ended it, that is 128 + n, as in a shell."""
        self._exit_code.write_text(f"{token} {code if code >= 0 else 128 - code}")

    def exit_code(self) -> int | None:
        """Return the exit code of the latest incarnation. None: its parent ended before it."""
        try:
            token, code = self._exit_code.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return int(code) if token == self.incarnation() else None

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _open(self) -> IO[bytes]:
        return self.path.open("ab")


def _try_lock(file: IO[bytes], mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
