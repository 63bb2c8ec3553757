"""Readers that stop reading: what they cost, whether the others are delayed, and that they lose nothing.

DORMOUSE_LONG=1 makes it fifty of them.
"""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from events.log import record
from events.models import EventLog
from tests.events.stream.listening import LAST
from tests.servers import DEADLINE_SECONDS, wait_for

pytestmark = pytest.mark.both_servers

STALLED = 50 if os.environ.get("DORMOUSE_LONG") else 8
EVENTS = 330
TEXT = "x" * 62_000  # all of them 20 MB
#: The contract allows 5 MB. What is held for one is its last chunk, and 64 KiB of the transport's.
MOST_BYTES = 1_000_000
#: The ring and its chunks, which the server keeps for all readers together.
SHARED_BYTES = 2 * 8 * 1024 * 1024


class Bytes:
    """A reader with a bare socket, which receives almost nothing while it does not read."""

    def __init__(self, server, cursor):
        self.server, self.cursor = server, cursor
        self.seen = []
        self.connect(4096)

    def connect(self, window_bytes=1 << 20):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        self.socket.settimeout(DEADLINE_SECONDS)
        self.socket.connect(("127.0.0.1", self.server.port))
        lines = ["GET /events HTTP/1.1", "Host: localhost", f"Last-Event-ID: {self.cursor}"]
        lines += [f"{name}: {value}" for name, value in self.server.bearer.items()]
        self.socket.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        assert self.socket.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"

    def read_on(self):
        """The ids of all connections up to the event LAST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        while not self._read():
            self.connect()
        return self.seen

    def _read(self):
        """Read to the end of the connection, or to LAST."""
        with self.socket, self.socket.makefile("rb") as lines:
            for line in lines:
                if line.startswith(b"event: "):
                    event = line[7:-1].decode()
                elif line.startswith(b"id: "):
                    self.cursor = int(line[4:])
                    if event in ("a.b", LAST):
                        self.seen.append(self.cursor)
                    if event == LAST:
                        return True
        assert event == "stream-end"
        return False


def resident_bytes(server):
    """Return the memory of the web process, as Linux counts it."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.uvicorn_too
def test_stalled_readers_cost_little_delay_no_other_and_lose_nothing(serve):
    server = serve(PYTHONDEVMODE="")  # it makes asyncio slow, and memory large
    start = record("start").id
    stalled = [Bytes(server, start) for _ in range(STALLED)]
    reader = Bytes(server, start)
    before = most = resident_bytes(server)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(reader.read_on)
        for n in range(EVENTS):
            row = record("a.b", data={"text": TEXT})
            if n % 10 == 0:  # the reader has everything while the others stand still
                wait_for(lambda: reader.cursor >= row.id)  # noqa: B023
                most = max(most, resident_bytes(server))
        record(LAST)
        everything = list(EventLog.objects.after(start).values_list("id", flat=True))
        assert reading.result() == everything
        each = (max(most, resident_bytes(server)) - before - SHARED_BYTES) / STALLED
        print(f"{STALLED} stalled readers: {each / 1e6:.2f} MB each")
        assert each < MOST_BYTES
        assert list(pool.map(Bytes.read_on, stalled)) == [everything] * STALLED
