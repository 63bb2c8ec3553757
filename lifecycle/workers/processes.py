"""Which process is which, on Linux: a pid alone may be given out again, a pid with its start time may not.

Source: proc(5).
"""

import os
from pathlib import Path

PROC = Path("/proc")


def home() -> str:
    """The boot and the pid namespace that our pids mean something in; empty where the system does not tell."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def started(pid: int) -> str | None:
    """The start time of a living process, in clock ticks since boot; None: it is gone, or a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return start_time(stat)


def is_gone(pid: int, pid_started: str) -> bool:
    """Certainly: there is no such process, or it is another. One that /proc hides from us may well be there."""
    try:
        return start_time((PROC / str(pid) / "stat").read_text()) != pid_started
    except OSError:
        return not _exists(pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def start_time(stat: str) -> str | None:
    """The same of the text of its `stat`."""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks and parentheses
    return None if len(fields) < 20 or fields[0] in "ZX" else fields[19]
