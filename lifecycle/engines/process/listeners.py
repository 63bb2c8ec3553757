"""Which process would get a connection to a port of this machine.

Source: proc(5), and `__inet_lookup_listener` in Linux: the most specific address wins, and an IPv6 socket for all
addresses also accepts IPv4, unless it has IPV6_V6ONLY, which /proc does not tell.
"""

import contextlib
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
LISTEN = "0A"


def _in_hex(*words: bytes) -> str:
    """Return an address as in /proc/net/tcp: its words of 32 bits as numbers of this machine."""
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


_LOOPBACK, _ALL = socket.inet_aton("127.0.0.1"), bytes(4)
#: The local addresses that accept a connection to 127.0.0.1, the most specific first.
RANKS = (
    {_in_hex(_LOOPBACK), _in_hex(_ALL, _ALL, b"\0\0\xff\xff", _LOOPBACK)},
    {_in_hex(_ALL)},
    {_in_hex(_ALL, _ALL, _ALL, _ALL)},
)


def find_listeners(port: int) -> set[str]:
    """Return the inodes of the sockets that may get a connection to 127.0.0.1:`port`. With SO_REUSEPORT several may."""
    found = [_listening(port, addresses) for addresses in RANKS]
    return next(filter(None, found), set())


def find_sockets(pids: Iterable[int]) -> set[str]:
    """Return the inodes of all sockets of the processes. Raises PermissionError if one belongs to another user."""
    found = set()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            for descriptor in (PROC / str(pid) / "fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # it was closed
                    found.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found


def _listening(port: int, addresses: set[str]) -> set[str]:
    wanted = {f"{address}:{port:04X}" for address in addresses}
    rows = [line.split() for name in ("tcp", "tcp6") for line in _lines(PROC / "net" / name)]
    return {row[9] for row in rows if row[1] in wanted and row[3] == LISTEN}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()[1:]
    except FileNotFoundError:  # a kernel without IPv6
        return []
