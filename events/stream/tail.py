"""The tail follows the log for all readers of an event loop at once: each event is read and encoded a single time.

A thread of the tail waits for commits, and reads the rows after its position. The event loop keeps them in a ring and
wakes the readers, which are no more than a cursor each. Events older than the ring are read in pages by a second
thread, up to the ring's head, so the two sources neither overlap nor leave a gap. Every read returns the floor of the
log with the rows, which shows whether some of them were pruned meanwhile.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from typing import Any, TypeVar

from django.db import DatabaseError, connections

from events.eventstream import encode
from events.integrity import high_water
from events.log import skip_past_mark
from events.models import LOG_RESTORED, EventLog, LogFloor
from events.stream.commits import watch_commits
from events.stream.ring import Chunk, Entry, EventFilter, Ring, make_chunk

T = TypeVar("T")
logger = logging.getLogger(__name__)

RING_BYTES = 8 * 1024 * 1024
BATCH_ROWS = 500
PAGE_ROWS = 200
RETRY_SECONDS = 1.0
#: How long the alarm of the readers waits at least. It looks at all of them.
MIN_ALARM_SECONDS = 0.05


class CursorLost(Exception):
    """A reader would miss something if it continued at its cursor, so it continues at another one."""

    def __init__(self, requested: int | str, oldest: int, latest: int, cursor: int) -> None:
        super().__init__(requested, oldest, latest, cursor)
        #: What the reader asked for. A text if that was no number.
        self.requested = requested
        #: The id of the oldest event kept (0: none is kept), and of the latest there ever was.
        self.oldest, self.latest = oldest, latest
        #: The cursor at which the reader continues.
        self.cursor = cursor


class Tail:
    """The tail of one event loop. The first reader makes it, and it stops with the last one."""

    def __init__(self) -> None:
        self.readers = 0
        self.ring: Ring
        self._loop = asyncio.get_running_loop()
        self._has_position = asyncio.Event()
        #: The readers that wait: until when, on the event loop's clock, and what wakes them.
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []
        #: Wakes those whose time has come. It is set for the earliest of them.
        self._alarm: asyncio.TimerHandle | None = None
        self._shared_queries: dict[tuple[Any, ...], asyncio.Future[Any]] = {}
        self._position: int | None = None
        #: The first and the last of the ids that are gone since this tail began.
        self._gone: list[tuple[int, int]] = []
        self._trouble = ""
        self._stopped = threading.Event()
        self._pages = ThreadPoolExecutor(1, "events-pages")  # one is enough: Python runs one thread at a time
        threading.Thread(target=self._follow, name="events-tail", daemon=True).start()

    async def locate(self, requested: int | str | None) -> int:
        """Return the cursor to start from: `requested`, or the end of the log if that is None.

        Raises CursorLost if `requested` is no number, is in the future, was pruned, or is from a log that was replaced
        by an older copy. Raises DatabaseError.
        """
        if isinstance(requested, int):
            await self._check_is_not_gone(requested)
        if requested is None or requested == self.ring.head:
            return self.ring.head
        if isinstance(requested, int) and await self._ring_continues(requested):
            return requested
        floor, oldest, latest = await self._query(read_bounds)
        # The database decides, because the cursor may come from another process that has seen more than this one.
        if isinstance(requested, str) or requested > max(latest, self.ring.head):
            raise CursorLost(requested, oldest, latest, self.ring.head)
        if requested < floor:
            raise CursorLost(requested, oldest, latest, floor)
        restored = await self._query(EventLog.objects.find_restored, requested)
        if restored is not None:
            raise CursorLost(requested, oldest, latest, max(restored, floor))
        return requested

    async def after(self, cursor: int, event_filter: EventFilter, max_bytes: int) -> Chunk:
        """Return what follows `cursor`: at least one event if there is one, then more up to `max_bytes`.

        Raises CursorLost if events after it were pruned, or it is gone, and DatabaseError.
        """
        if self._gone:
            await self._check_is_not_gone(cursor)
        if cursor >= self.ring.start:
            return self.ring.take(cursor, event_filter, max_bytes)
        return await self._share_query(read_page, cursor, self.ring.head, event_filter, max_bytes)

    async def wait(self, cursor: int, seconds: float) -> None:
        """Wait until there is something after `cursor`, for about `seconds` at most.

        If there is something already, only let the other readers have their turn.
        """
        if self.ring.head > cursor:
            await asyncio.sleep(0)
            return
        until, waiting = self._loop.time() + seconds, self._loop.create_future()
        self._waiting.append((until, waiting))
        self._set_alarm(until)
        await waiting

    async def wait_for_position(self, seconds: float) -> None:
        """Wait until the tail knows the end of the log. Raises TimeoutError after `seconds`."""
        async with asyncio.timeout(seconds):
            await self._has_position.wait()

    def stop(self) -> None:
        """End both threads and their connections. This does not wait for them."""
        self._stopped.set()
        if self._alarm:
            self._alarm.cancel()
        self._pages.submit(connections.close_all)
        self._pages.shutdown(wait=False)

    async def _check_is_not_gone(self, cursor: int) -> None:
        """Raise CursorLost if `cursor` is an id that is gone since this tail began."""
        for first, last in self._gone:
            if first <= cursor <= last:
                floor, oldest, latest = await self._query(read_bounds)
                raise CursorLost(cursor, oldest, latest, max(first - 1, floor))

    async def _ring_continues(self, cursor: int) -> bool:
        """Return whether the ring holds what follows `cursor`, and nothing of that was pruned."""
        if not self.ring.start <= cursor < self.ring.head:
            return False
        floor: int = await self._share_query(LogFloor.now)
        return cursor >= floor

    async def _query(self, query: Callable[..., T], *arguments: Any) -> T:
        """Run a query in the thread for pages."""
        return await self._loop.run_in_executor(self._pages, _run_query, query, *arguments)

    async def _share_query(self, query: Callable[..., T], *arguments: Any) -> T:
        """Run a query once for all readers that ask for the same. After a restart, many come back with one cursor."""
        key = (query, *arguments)
        if key not in self._shared_queries:
            self._shared_queries[key] = asyncio.ensure_future(self._query(query, *arguments))
            self._shared_queries[key].add_done_callback(lambda _: self._shared_queries.pop(key))
        result: T = await asyncio.shield(self._shared_queries[key])  # one reader may leave while others wait
        return result

    # These run in the event loop; the thread calls them.

    def _begin(self, position: int) -> None:
        self.ring = Ring(position, RING_BYTES)
        self._has_position.set()

    def _append(self, entries: list[Entry]) -> None:
        self.ring.append(entries)
        self._wake_readers()

    def _skip_to(self, floor: int) -> None:
        self.ring.skip_to(floor)
        self._wake_readers()

    def _note_gone(self, first: int, last: int) -> None:
        self._gone.append((first, last))
        if self.ring.head >= first:
            self.ring.skip_to(self.ring.head)
        self._wake_readers()

    def _wake_readers(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, reader in waiting:
            _wake(reader)

    # One alarm serves all readers, because a timer for each of them and each event takes longer than to send the event.

    def _set_alarm(self, until: float) -> None:
        """Let the alarm come at `until`, unless it comes earlier."""
        at = max(until, self._loop.time() + MIN_ALARM_SECONDS)
        if self._alarm:
            if self._alarm.when() <= at:
                return
            self._alarm.cancel()
        self._alarm = self._loop.call_at(at, self._wake_late_readers)

    def _wake_late_readers(self) -> None:
        self._alarm, now = None, self._loop.time()
        waiting, self._waiting = self._waiting, []
        for until, reader in waiting:
            if until <= now:
                _wake(reader)
            elif not reader.done():
                self._waiting.append((until, reader))
        if self._waiting:
            self._set_alarm(min(until for until, _ in self._waiting))

    # These run in the thread.

    def _follow(self) -> None:
        while not (self._stopped.is_set() or self._loop.is_closed()):
            try:
                with closing(watch_commits()) as commits:
                    while not self._stopped.is_set():
                        self._read()
                        self._log_once("")
                        commits.wait(self._stopped)
            except DatabaseError as error:
                self._log_once(f"The event log cannot be followed, trying again every {RETRY_SECONDS} s: {error}")
                self._stopped.wait(RETRY_SECONDS)
            except Exception:
                logger.exception("The event log cannot be followed; trying again in %s s", RETRY_SECONDS)
                self._stopped.wait(RETRY_SECONDS)
            finally:
                connections.close_all()

    def _log_once(self, trouble: str) -> None:
        """Log a trouble of the database when it begins and when it is over, and not once a second."""
        if trouble != self._trouble:
            logger.warning("%s", trouble) if trouble else logger.info("Resolved: %s", self._trouble)
        self._trouble = trouble

    def _read(self) -> None:
        """Read all rows after the position, and hand them to the event loop."""
        if self._position is None:
            skip_past_mark()
            self._position = EventLog.objects.bounds()[1]
            self._loop.call_soon_threadsafe(self._begin, self._position)
        while True:
            rows, floor = EventLog.objects.after(self._position)[:BATCH_ROWS].read()
            if floor > self._position:  # events that this process has not read yet were pruned
                self._position = floor
                self._loop.call_soon_threadsafe(self._skip_to, floor)
                continue
            if rows:
                for row in rows:
                    if row.type == LOG_RESTORED:
                        self._loop.call_soon_threadsafe(self._note_gone, row.data["from"], row.data["to"])
                self._loop.call_soon_threadsafe(self._append, [make_entry(row) for row in rows])
                self._position = rows[-1].id
                high_water.note(self._position)
            elif high_water.is_behind():
                skip_past_mark()
                continue
            if len(rows) < BATCH_ROWS:
                return


def _wake(reader: "asyncio.Future[None]") -> None:
    if not reader.done():  # it is done if its stream was cancelled
        reader.set_result(None)


def make_entry(row: EventLog) -> Entry:
    """Return a row of the log, encoded for the ring."""
    return Entry(row.id, row.type, row.instance, encode(row))


def read_page(cursor: int, until: int, event_filter: EventFilter, max_bytes: int) -> Chunk:
    """Return what follows `cursor` in the database, at most up to the id `until`. Raises CursorLost, DatabaseError."""
    found = EventLog.objects.after(cursor).filter(id__lte=until)
    found = found.matching(event_filter.instances, event_filter.types)
    for limit in (max(1, PAGE_ROWS // 20), PAGE_ROWS):  # few at first, because a few large rows may fill the chunk
        rows, floor = found[:limit].read()
        if cursor < floor:
            raise CursorLost(cursor, *EventLog.objects.bounds(), floor)
        end = until if len(rows) < limit else rows[-1].id
        chunk = make_chunk(map(make_entry, rows), end, max_bytes)
        if chunk.cursor < end or end == until:
            break
    return chunk


def read_bounds() -> tuple[int, int, int]:
    """Return the floor of the log, the id of the oldest event kept, and the id of the latest."""
    floor = LogFloor.now()
    return floor, *EventLog.objects.bounds()


def _run_query(query: Callable[..., T], *arguments: Any) -> T:
    try:
        return query(*arguments)
    except DatabaseError:
        connections.close_all()  # so that the next query gets a new connection
        raise


_tails: dict[asyncio.AbstractEventLoop, Tail] = {}


@asynccontextmanager
async def shared_tail() -> AsyncIterator[Tail]:
    """Provide this event loop's tail to one reader. The reader waits for its position before anything else."""
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
