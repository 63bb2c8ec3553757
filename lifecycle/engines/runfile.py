"""The file that a local process holds locked as long as it runs."""

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lifecycle.workers import processes as procfs

#: A look holds the lock for a moment; a start tries this often, this far apart.
TRIES = 50
RETRY_SECONDS = 0.002


class RunFile:
    """The locked file of one instance: a token made new at each start, then the `stat` of the process.

    Beside it are its output and its exit code.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.lock"
        self.output = folder / f"{name}.log"
        self._exit_code = folder / f"{name}.exit"

    def is_locked(self) -> bool:
        with self._opened() as file:
            return not _try_lock(file, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def lock(self) -> Iterator[IO[bytes] | None]:
        """The file, locked until it and every copy of it are closed; None: something runs."""
        with self._opened() as file:
            for _ in range(TRIES):  # another process may hold it for the moment of a look
                if _try_lock(file, fcntl.LOCK_EX):
                    yield file
                    return
                time.sleep(RETRY_SECONDS)
            yield None

    def begin(self, lock: IO[bytes]) -> str:
        """A new incarnation, of which only its token is known yet."""
        token = str(uuid.uuid4())
        lock.truncate(0)
        lock.write(f"{token}\n".encode())
        lock.flush()
        return token

    def incarnation(self) -> str:
        return (self._lines() or [""])[0]

    def signal(self, number: int) -> bool:
        """To the whole group. False: the file does not name the process yet, or the pid is someone else's by now."""
        stat = (self._lines()[1:] or [""])[0]
        pid = stat.split(" ")[0]
        if not pid.isdigit() or procfs.started(int(pid)) not in (None, procfs.start_time(stat)):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(pid), number)
        return True

    def keep_exit_code(self, token: str, code: int) -> None:
        """As a shell says it: 128 and the signal, where a signal ended it."""
        self._exit_code.write_text(f"{token} {code if code >= 0 else 128 - code}")

    def exit_code(self) -> int | None:
        """Of the latest incarnation, where its parent lived to see it."""
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

    def _opened(self) -> IO[bytes]:
        return self.path.open("ab")


def _try_lock(file: IO[bytes], mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
