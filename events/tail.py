"""Follows the log for all readers of an event loop at once: each event is read and encoded a single time.

A thread of the tail's own waits for commits and reads what follows its position. The event loop keeps it in a ring and
wakes the readers, each of which is no more than a cursor here. What is older than the ring is read in pages by a
second thread, up to the ring's head, so that the two can neither overlap nor leave a hole. What was pruned under either
of them is told by the floor that comes with the rows.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from typing import Any, TypeVar

from django.db import DatabaseError, connections

from events.commits import commits
from events.eventstream import encode
from events.models import EventLog, LogFloor
from events.ring import About, Chunk, Entry, Ring, join

T = TypeVar("T")
logger = logging.getLogger(__name__)

RING_BYTES = 8 * 1024 * 1024
BATCH_ROWS = 500
PAGE_ROWS = 200
RETRY_SECONDS = 1.0


class CursorLost(Exception):
    """The reader cannot continue at its cursor without missing something, and continues at another one."""

    def __init__(self, requested: int | str, oldest: int, latest: int, cursor: int) -> None:
        super().__init__(requested, oldest, latest, cursor)
        #: What the reader asked for; a text where that was no number.
        self.requested = requested
        #: The ids of the oldest event kept (0: none is) and of the latest there ever was.
        self.oldest, self.latest = oldest, latest
        #: Where it continues.
        self.cursor = cursor


class Tail:
    """Of one event loop; made by the first reader and over with the last one."""

    def __init__(self) -> None:
        self.readers = 0
        self.ring: Ring
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._news = asyncio.Event()
        self._asked: dict[tuple[Any, ...], asyncio.Future[Any]] = {}
        self._position: int | None = None
        self._stopped = threading.Event()
        self._pages = ThreadPoolExecutor(1, "events-pages")  # one: there is one interpreter to share anyway
        threading.Thread(target=self._follow, name="events-tail", daemon=True).start()

    async def locate(self, requested: int | str | None) -> int:
        """The cursor to start from. Raises CursorLost where `requested` cannot be honoured; None is from now on."""
        if requested is None or requested == self.ring.head:
            return self.ring.head
        if isinstance(requested, int) and await self._has(requested):
            return requested
        floor, oldest, latest = await self._ask(bounds)
        # A reader may come from another process that has seen more than this one, so the database decides.
        if isinstance(requested, str) or requested > max(latest, self.ring.head):
            raise CursorLost(requested, oldest, latest, self.ring.head)
        if requested < floor:
            raise CursorLost(requested, oldest, latest, floor)
        return requested

    async def after(self, cursor: int, about: About, max_bytes: int) -> Chunk:
        """What follows `cursor`: at least one event (where there is one), then up to `max_bytes`.

        Raises CursorLost where some of it is no longer kept, and DatabaseError.
        """
        if cursor >= self.ring.start:
            return self.ring.take(cursor, about, max_bytes)
        return await self._share(read_page, cursor, self.ring.head, about, max_bytes)

    async def wait(self, cursor: int, seconds: float) -> None:
        """Until there is something after `cursor`, at most `seconds`."""
        if self.ring.head > cursor:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.ring.head <= cursor:
                    await self._news.wait()

    async def join(self, seconds: float) -> None:
        """Until the tail knows its position. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            await self._ready.wait()

    def stop(self) -> None:
        self._stopped.set()
        self._pages.submit(connections.close_all)
        self._pages.shutdown(wait=False)

    async def _has(self, cursor: int) -> bool:
        """Whether the ring goes on from `cursor`, and what follows it is not pruned."""
        return self.ring.start <= cursor < self.ring.head and cursor >= await self._share(LogFloor.now)

    async def _ask(self, question: Callable[..., T], *about: Any) -> T:
        return await self._loop.run_in_executor(self._pages, _answer, question, *about)

    async def _share(self, question: Callable[..., T], *about: Any) -> T:
        """Readers that come back together after a restart ask the same, and share the answer."""
        key = (question, *about)
        if key not in self._asked:
            self._asked[key] = asyncio.ensure_future(self._ask(question, *about))
            self._asked[key].add_done_callback(lambda _: self._asked.pop(key))
        answer: T = await asyncio.shield(self._asked[key])  # shielded, for one of them may leave alone
        return answer

    def _begin(self, position: int) -> None:
        self.ring = Ring(position, RING_BYTES)
        self._ready.set()

    def _append(self, entries: list[Entry]) -> None:
        self.ring.append(entries)
        self._wake()

    def _skip_to(self, floor: int) -> None:
        self.ring.skip_to(floor)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # In the thread:

    def _follow(self) -> None:
        while not (self._stopped.is_set() or self._loop.is_closed()):
            try:
                with closing(commits()) as new_commits:
                    while not self._stopped.is_set():
                        self._read()
                        new_commits.wait(self._stopped)
            except Exception:
                logger.exception("the event log cannot be followed; the next attempt is in %s s", RETRY_SECONDS)
                self._stopped.wait(RETRY_SECONDS)
            finally:
                connections.close_all()

    def _read(self) -> None:
        if self._position is None:
            self._position = EventLog.objects.bounds()[1]
            self._loop.call_soon_threadsafe(self._begin, self._position)
        while True:
            rows, floor = EventLog.objects.after(self._position)[:BATCH_ROWS].read()
            if floor > self._position:  # a prune has overtaken this process
                self._position = floor
                self._loop.call_soon_threadsafe(self._skip_to, floor)
                continue
            if rows:
                self._loop.call_soon_threadsafe(self._append, [entry(row) for row in rows])
                self._position = rows[-1].id
            if len(rows) < BATCH_ROWS:
                return


def entry(row: EventLog) -> Entry:
    return Entry(row.id, row.type, row.instance, encode(row))


def read_page(cursor: int, until: int, about: About, max_bytes: int) -> Chunk:
    """From the database: what follows `cursor`, at most up to `until`. Raises CursorLost and DatabaseError."""
    found = EventLog.objects.after(cursor).filter(id__lte=until).about(about.instances, about.types)
    for limit in (max(1, PAGE_ROWS // 20), PAGE_ROWS):  # few at first: they may be as large as the whole chunk
        rows, floor = found[:limit].read()
        if cursor < floor:
            raise CursorLost(cursor, *EventLog.objects.bounds(), floor)
        end = until if len(rows) < limit else rows[-1].id
        chunk = join(map(entry, rows), end, max_bytes)
        if chunk.cursor < end or end == until:
            break
    return chunk


def bounds() -> tuple[int, int, int]:
    """The floor of the log, then the bounds of what is above it."""
    floor = LogFloor.now()
    return floor, *EventLog.objects.bounds()


def _answer(question: Callable[..., T], *about: Any) -> T:
    try:
        return question(*about)
    except DatabaseError:
        connections.close_all()  # the next question gets a new connection
        raise


_tails: dict[asyncio.AbstractEventLoop, Tail] = {}


@asynccontextmanager
async def follow() -> AsyncIterator[Tail]:
    """The tail of this event loop, for one reader, who joins it before anything else."""
    loop = asyncio.get_running_loop()
    if loop not in _tails:
        _tails[loop] = Tail()
    tail = _tails[loop]
    tail.readers += 1
    try:
        yield tail
    finally:
        tail.readers -= 1
        if not tail.readers:
            del _tails[loop]
            tail.stop()
