"""Very many readers of one stream, in a process of their own, so cheap that they are not what is measured.

They use raw sockets and epoll: one read, one clock and one regular expression for each chunk. Every mark is noted for
every reader, so that lost and repeated events are counted and not sampled.
"""

import multiprocessing
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Self

from benchmarks.load.marks import BEGIN, END, MARK

#: Below the backlog of daphne's listening socket (50).
CONNECTING_AT_ONCE = 32
FREE_RECEIVE_BYTES = 1024 * 1024
ID = re.compile(rb"\nid: ?(?:events:)?(\d+)\r?\n")


@dataclass
class Deliveries:
    """The fate of the expected events, at all readers that read."""

    expected: int
    arrived: int = 0
    repeated: int = 0
    disordered: int = 0
    #: When the last expected event came, and when the last event of any kind came, in monotonic ns.
    last_ns: int = 0
    heard_ns: int = 0
    #: From just before it was published until it was read, for each first arrival at a reader.
    latencies_ns: list[int] = field(default_factory=list)
    #: When the first reader had each number.
    first_ns: dict[int, int] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        return self.expected - self.arrived


class Reader:
    """One connection, and what came on it."""

    def __init__(self, group: str, receive_bytes: int) -> None:
        self.group, self._receive_bytes = group, receive_bytes
        self.seen: set[int] = set()
        self.highest = -1
        self.is_open = False
        self._rest = self._ending = b""
        self.socket: socket.socket

    def connect(self, port: int, request: bytes) -> None:
        self.socket = socket.socket()
        if self._receive_bytes:  # before it connects, because that fixes the window
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(request)
        self.socket.setblocking(False)
        self._rest = b""

    def read_freely(self) -> None:
        """Use a large receive window from now on. The small one is for readers that stall."""
        self._receive_bytes = 0
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FREE_RECEIVE_BYTES)

    @property
    def cursor(self) -> bytes:
        """The last id, which the end event names too."""
        return ID.findall(self._ending)[-1]

    def marks(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """Return the complete marks. The beginning of an incomplete one is kept until its end comes."""
        self._ending = (self._ending + chunk)[-512:]
        if not self.is_open and b"stream-open" in self._ending:
            self.is_open = True
        chunk = self._rest + chunk
        begun = chunk.rfind(BEGIN)
        cut = begun >= 0 and END not in chunk[begun:]
        self._rest, whole = (chunk[begun:], chunk[:begun]) if cut else (b"", chunk)
        return MARK.findall(whole)


class ReaderProcess:
    """The readers' side. It runs in a process of its own, and carries out the orders of `Crowd`."""

    def __init__(self, orders: Connection) -> None:
        self._orders = orders
        self._poll = select.epoll()
        self._poll.register(orders.fileno(), select.EPOLLIN)
        self._readers: dict[int, Reader] = {}
        self._to_connect: deque[Reader] = deque()
        self._connecting = 0
        self._began = 0.0
        self._group = ""
        self._wanted = range(0)
        self._done: Callable[[], Any] | None = None
        self.deliveries = Deliveries(0)

    def run(self) -> None:
        while True:
            for descriptor, _ in self._poll.poll(0.05):
                if descriptor != self._orders.fileno():
                    self._receive(descriptor)
                elif not self._obey():
                    return
            self._answer_when_done()

    def _obey(self) -> bool:
        try:
            name, arguments = self._orders.recv()
        except EOFError:
            return False
        getattr(self, name)(*arguments)
        return True

    def _answer_when_done(self) -> None:
        if self._done and (answer := self._done()) is not None:
            self._done = None
            self._orders.send(answer)

    def connect(self, port: int, request: bytes, count: int, group: str, receive_bytes: int) -> None:
        """Connect readers. Answer how many seconds it took until each of them had read that its stream is open."""
        self._port, self._request = port, request
        self._began = time.monotonic()
        self._to_connect += [Reader(group, receive_bytes) for _ in range(count)]
        self._connect_more()
        self._done = lambda: None if self._connecting or self._to_connect else time.monotonic() - self._began

    def _connect_more(self) -> None:
        while self._to_connect and self._connecting < CONNECTING_AT_ONCE:
            self._connecting += 1
            self._connect(self._to_connect.popleft(), self._request)

    def _connect(self, reader: Reader, request: bytes) -> None:
        reader.connect(self._port, request)
        self._readers[reader.socket.fileno()] = reader
        self._poll.register(reader.socket.fileno(), select.EPOLLIN)

    def expect(self, first: int, count: int, group: str) -> None:
        """Expect these events at every reader of `group`, or at all readers. Answer how many readers that are."""
        self._group, self._wanted = group, range(first, first + count)
        listening = sum(1 for reader in self._readers.values() if reader.group == group or not group)
        self.deliveries = Deliveries(listening * count)
        self._done = lambda: listening

    def settle(self, calm_seconds: float, quiet_seconds: float, seconds: float) -> None:
        """Answer with the deliveries, after `seconds` at the latest.

        Answer if all have come, and then nothing for `calm_seconds` (repeated events may come late). Also answer if
        some are missing, and nothing has come for `quiet_seconds`.
        """
        asked = time.monotonic()

        def done() -> Deliveries | None:
            now, found = time.monotonic(), self.deliveries
            silence = now - max(asked, found.heard_ns / 1e9)
            is_over = silence > (quiet_seconds if found.lost else calm_seconds) or now - asked > seconds
            return found if is_over else None

        self._done = done

    def pause(self, group: str) -> None:
        for descriptor, reader in self._readers.items():
            if reader.group == group:
                self._poll.modify(descriptor, 0)
        self._done = lambda: True

    def resume(self, group: str) -> None:
        for descriptor, reader in self._readers.items():
            if reader.group == group:
                reader.read_freely()
                self._poll.modify(descriptor, select.EPOLLIN)
        self._done = lambda: True

    def _receive(self, descriptor: int) -> None:
        reader = self._readers.get(descriptor)
        if reader is None:
            return
        try:
            chunk = reader.socket.recv(262144)
        except ConnectionResetError:
            chunk = b""
        now = time.monotonic_ns()
        if not chunk:
            self._come_back(reader)
            return
        was_open = reader.is_open
        for number, published in reader.marks(chunk):
            self._note(reader, int(number), now, int(published))
        if reader.is_open and not was_open:
            self._connecting -= 1
            self._connect_more()

    def _come_back(self, reader: Reader) -> None:
        """Reconnect with the cursor, as EventSource does."""
        del self._readers[reader.socket.fileno()]
        self._poll.unregister(reader.socket.fileno())
        reader.socket.close()
        self._connect(reader, self._request[:-2] + b"Last-Event-ID: " + reader.cursor + b"\r\n\r\n")

    def _note(self, reader: Reader, number: int, now: int, published: int) -> None:
        found, is_new = self.deliveries, number not in reader.seen
        reader.seen.add(number)
        if self._group and reader.group != self._group:
            return
        found.heard_ns = now
        found.repeated += not is_new
        if not is_new or number not in self._wanted:
            return
        found.last_ns = now
        found.arrived += 1
        found.disordered += number < reader.highest
        reader.highest = max(number, reader.highest)
        found.latencies_ns.append(now - published)
        found.first_ns.setdefault(number, now)

    def count(self, first: int, count: int, group: str) -> None:
        """Answer how many of those numbers the readers of `group` have not seen so far, in all."""
        wanted = range(first, first + count)
        self._done = lambda: sum(
            sum(1 for number in wanted if number not in reader.seen)
            for reader in self._readers.values()
            if reader.group == group
        )


def attend(orders: Connection) -> None:
    ReaderProcess(orders).run()


class Crowd:
    """The measuring side. `with Crowd() as crowd`; see ReaderProcess for what each order does."""

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(target=attend, args=(theirs,))
        self._process.start()
        theirs.close()
        return self

    def __exit__(self, *error: object) -> None:
        self._orders.close()
        self._process.join(5)
        self._process.kill()

    def _order(self, name: str, *arguments: Any) -> Any:
        self._orders.send((name, arguments))
        return self._orders.recv()

    def connect(self, port: int, request: bytes, count: int, group: str = "", receive_bytes: int = 0) -> float:
        return float(self._order("connect", port, request, count, group, receive_bytes))

    def expect(self, first: int, count: int, group: str = "") -> int:
        return int(self._order("expect", first, count, group))

    def settle(self, calm_seconds: float = 0.1, quiet_seconds: float = 5, seconds: float = 120) -> Deliveries:
        found: Deliveries = self._order("settle", calm_seconds, quiet_seconds, seconds)
        return found

    def pause(self, group: str) -> None:
        self._order("pause", group)

    def resume(self, group: str) -> None:
        self._order("resume", group)

    def missing(self, first: int, count: int, group: str) -> int:
        return int(self._order("count", first, count, group))
