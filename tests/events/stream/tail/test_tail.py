import asyncio
import threading

import pytest
from channels.db import database_sync_to_async
from django.db import OperationalError, transaction

from events.log import record
from events.models import EventLog
from events.stream import tail as tail_module
from events.stream.commits import watch_commits
from events.stream.ring import EVERYTHING, EventFilter
from events.stream.tail import CursorLost, shared_tail
from tests.events.stream.listening import arecord
from tests.servers import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
MUCH = 1_000_000


def tails():
    return [thread for thread in threading.enumerate() if thread.name == "events-tail"]


def ids(body):
    return [int(line.removeprefix("id: ")) for line in body.decode().split("\n") if line.startswith("id: ")]


async def read(tail, cursor, count, about=EVERYTHING):
    """The ids of what follows `cursor`, until there are `count`."""
    found = []
    while len(found) < count:
        await tail.wait(cursor, 60)
        chunk = await tail.after(cursor, about, MUCH)
        found += ids(chunk.body)
        cursor = chunk.cursor
    return found


def following(scenario):
    """Runs `scenario(tail)` in an event loop of its own."""

    async def run():
        async with shared_tail() as tail:
            await tail.wait_for_position(60)
            return await scenario(tail)

    return asyncio.run(run())


def test_a_reader_without_a_cursor_starts_at_the_latest_event():
    record("a.b")
    latest = record("a.b").id

    async def scenario(tail):
        assert await tail.locate(None) == latest

    following(scenario)


def test_what_is_committed_reaches_the_reader_in_order():
    async def scenario(tail):
        start = await tail.locate(None)
        made = [(await arecord("a.b")).id for _ in range(5)]
        assert await read(tail, start, 5) == made

    following(scenario)


@transaction.atomic
def record_in_vain():
    record("rolled.back")
    transaction.set_rollback(True)


def test_a_rolled_back_event_reaches_no_reader():
    async def scenario(tail):
        start = await tail.locate(None)
        await database_sync_to_async(record_in_vain)()
        await arecord("a.b")
        await tail.wait(start, 60)
        return (await tail.after(start, EVERYTHING, MUCH)).body

    body = following(scenario)
    assert b"event: a.b" in body
    assert b"rolled.back" not in body


def test_an_uncommitted_event_reaches_no_reader():
    async def scenario(tail):
        return (await tail.after(await tail.locate(None), EVERYTHING, MUCH)).body

    with transaction.atomic():
        record("a.b")
        assert following(scenario) == b""


@pytest.mark.parametrize("ring_bytes", [0, 300, 10_000])
def test_the_pages_of_the_database_and_the_ring_join_without_overlap_or_hole(monkeypatch, ring_bytes):
    monkeypatch.setattr(tail_module, "RING_BYTES", ring_bytes)
    monkeypatch.setattr(tail_module, "PAGE_ROWS", 3)
    old = [record("a.b").id for _ in range(20)]

    async def scenario(tail):
        writing = asyncio.create_task(write())
        assert await read(tail, old[0] - 1, 50) == old + await writing

    async def write():
        return [(await arecord("a.b")).id for _ in range(30)]

    following(scenario)


def test_a_filtered_page_moves_the_cursor_past_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr(tail_module, "PAGE_ROWS", 2)
    first = record("a.b")
    seen = [record("a.b", instance="x").id, record("c.d", instance="x").id, record("a.b", instance="x").id]
    latest = record("a.b").id

    async def scenario(tail):
        about = EventFilter(frozenset({"x"}))
        assert await read(tail, first.id - 1, 3, about) == seen
        assert (await tail.after(seen[-1], about, MUCH)).cursor == latest

    following(scenario)


@pytest.mark.parametrize("ring_bytes", [0, 10_000])
def test_a_wildcard_works_on_older_pages_and_in_the_ring(monkeypatch, ring_bytes):
    monkeypatch.setattr(tail_module, "RING_BYTES", ring_bytes)
    types = ["container.a", "other", "container.b.c", "Container.a", "containers.a", "container"]
    old = [record(type).id for type in types]

    async def scenario(tail):
        new = [(await arecord(type)).id for type in types]
        wanted = EventFilter(types=frozenset({"container.*"}))
        assert await read(tail, old[0] - 1, 4, wanted) == [old[0], old[2], new[0], new[2]]

    following(scenario)


def test_readers_at_the_same_old_place_share_one_page(monkeypatch):
    asked = []
    read_page = tail_module.read_page
    monkeypatch.setattr(tail_module, "read_page", lambda *page: asked.append(page) or read_page(*page))
    first = record("a.b").id

    async def scenario(tail):
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(tail.after(first - 1, EVERYTHING, MUCH)) for _ in range(20)]
        assert len({id(reader.result()) for reader in readers}) == 1

    following(scenario)
    assert len(asked) == 1


def test_one_of_them_may_leave():
    first = record("a.b").id

    async def scenario(tail):
        leaving = asyncio.create_task(tail.after(first - 1, EVERYTHING, MUCH))
        staying = asyncio.create_task(tail.after(first - 1, EVERYTHING, MUCH))
        await asyncio.sleep(0)
        leaving.cancel()
        assert ids((await staying).body) == [first]

    following(scenario)


@pytest.mark.parametrize("requested", ["abc", 10**17])
def test_a_cursor_that_cannot_be_honoured_continues_from_now(requested):
    oldest, latest = record("a.b").id, record("a.b").id

    async def scenario(tail):
        with pytest.raises(CursorLost) as lost:
            await tail.locate(requested)
        assert (lost.value.oldest, lost.value.latest, lost.value.cursor) == (oldest, latest, latest)

    following(scenario)


def test_a_cursor_that_this_process_has_not_seen_yet_is_honoured():
    async def scenario(tail):
        tail.ring.head = tail.ring.start = latest - 1
        return await tail.locate(latest)

    latest = record("a.b").id
    assert following(scenario) == latest


def test_a_cursor_below_what_is_kept_continues_at_the_oldest():
    gone, oldest = record("a.b").id, record("a.b").id
    latest = record("a.b").id
    EventLog.objects.prune(gone)

    async def scenario(tail):
        with pytest.raises(CursorLost) as lost:
            await tail.locate(gone - 1)
        assert (lost.value.oldest, lost.value.latest, lost.value.cursor) == (oldest, latest, oldest - 1)
        assert await tail.locate(gone) == gone

    following(scenario)


@pytest.mark.parametrize("left", [0, 1])
def test_what_is_pruned_in_the_middle_of_a_long_read_is_reported(left):
    kept = [record("a.b").id for _ in range(4)]

    async def scenario(tail):
        start = await tail.locate(kept[0] - 1)
        await database_sync_to_async(EventLog.objects.prune)(kept[-1 - left])
        with pytest.raises(CursorLost) as lost:
            await tail.after(start, EVERYTHING, MUCH)
        assert lost.value.cursor == kept[-1 - left]

    following(scenario)


def test_all_readers_of_a_loop_have_one_tail_and_it_ends_with_the_last():
    async def scenario(tail):
        async with shared_tail() as other:
            assert other is tail
        assert len(tails()) == 1

    following(scenario)
    wait_for(lambda: not tails())


def test_a_reader_after_the_last_one_gets_a_new_tail():
    async def run():
        async with shared_tail() as first:
            await first.wait_for_position(60)
        row = await arecord("a.b")
        async with shared_tail() as second:
            await second.wait_for_position(60)
            assert await second.locate(None) == row.id

    asyncio.run(run())


def test_an_error_of_the_database_is_logged_and_tried_again(monkeypatch, caplog):
    errors = iter([OperationalError("the first attempt"), OperationalError("the second attempt")])
    really_watch = watch_commits

    def failing_at_first():
        for error in errors:
            raise error
        return really_watch()

    monkeypatch.setattr(tail_module, "watch_commits", failing_at_first)
    monkeypatch.setattr(tail_module, "RETRY_SECONDS", 0.001)

    async def scenario(tail):
        start = await tail.locate(None)
        made = (await arecord("a.b")).id
        assert await read(tail, start, 1) == [made]

    following(scenario)
    assert "the second attempt" in caplog.text


def test_an_error_in_the_middle_loses_and_repeats_nothing(monkeypatch):
    entry = tail_module.make_entry
    errors = iter([OperationalError("once")])

    def failing_once(row):
        for error in errors:
            raise error
        return entry(row)

    monkeypatch.setattr(tail_module, "RETRY_SECONDS", 0.001)

    async def scenario(tail):
        start = await tail.locate(None)
        first = (await arecord("a.b")).id
        assert await read(tail, start, 1) == [first]
        monkeypatch.setattr(tail_module, "make_entry", failing_once)
        more = [(await arecord("a.b")).id for _ in range(3)]
        assert await read(tail, start, 4) == [first, *more]

    following(scenario)


def test_a_tail_that_cannot_begin_says_so_in_time(monkeypatch):
    def fail():
        raise OperationalError("no database")

    monkeypatch.setattr(tail_module, "watch_commits", fail)

    async def run():
        async with shared_tail() as tail:
            await tail.wait_for_position(0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(run())
