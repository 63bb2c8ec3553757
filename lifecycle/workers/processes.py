"""Which process is which, on Linux. A pid alone may be given out again; a pid with its start time is not.

The start time is kept in the database and in run files, in clock ticks since boot, because that never changes. psutil
shows it only in seconds since 1970, which move when the wall clock is set.
Source: proc(5)
"""

import os
from pathlib import Path

PROC = Path("/proc")


def home() -> str:
    """Return the boot and the pid namespace in which our pids mean something. Empty if the system does not tell."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def start_ticks(pid: int) -> str | None:
    """Return the start time of a living process, in clock ticks since boot. None: it has ended, or is a zombie."""
    try:
        return parse_start_ticks(_read_stat(pid))
    except OSError:
        return None


def is_frozen(pid: int) -> bool | None:
    """Return whether SIGSTOP holds the process. None: it has ended, or is a zombie."""
    try:
        state = _read_stat(pid).rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None
    return None if state in "ZX" else state == "T"


def parse_start_ticks(stat: str) -> str | None:
    """Return the start time from the text of `/proc/PID/stat`. None: the process is a zombie, or the text is cut."""
    fields = stat.rpartition(")")[2].split()  # the program's name before it may hold blanks and parentheses
    return None if len(fields) < 20 or fields[0] in "ZX" else fields[19]


def is_gone(pid: int, pid_started: str) -> bool:
    """Return whether it is sure that the process has ended: there is no such pid, or it is another process.

    A process that /proc hides from this user may still run.
    """
    try:
        return parse_start_ticks(_read_stat(pid)) != pid_started
    except OSError:
        return not _exists(pid)


def _read_stat(pid: int) -> str:
    return (PROC / str(pid) / "stat").read_text()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
