"""The joints between the tail's parts (pages of the database, ring, wait for commits), with interleavings forced."""

import asyncio
import threading

import pytest
from channels.db import database_sync_to_async

from events.log import record
from events.models import EventLogQuerySet
from events.stream import tail as tail_module
from events.stream.ring import EVERYTHING, EventFilter
from events.stream.tail import shared_tail
from tests.events.stream.listening import Listener, arecord
from tests.events.stream.listening import ids as ids_of
from tests.events.stream.tail.test_tail import MUCH, following, ids, read
from tests.servers import DEADLINE_SECONDS, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def once(wrapped, first):
    """`wrapped`, whose first call is followed by `first()` before it returns."""
    calls = []

    def call(*args):
        answer = wrapped(*args)
        calls.append(args)
        if len(calls) == 1:
            first()
        return answer

    return call


def many(count):
    return [record("a.b", data={"text": "x" * 50}).id for _ in range(count)]


@pytest.fixture
def tails(monkeypatch):
    """Every tail that is made."""
    made = []
    begin = tail_module.Tail._begin
    monkeypatch.setattr(tail_module.Tail, "_begin", lambda tail, position: (made.append(tail), begin(tail, position)))
    return made


def test_an_event_while_the_tail_looks_for_its_place_is_not_missed(monkeypatch):
    start = record("a.b").id
    made = []
    monkeypatch.setattr(EventLogQuerySet, "bounds", once(EventLogQuerySet.bounds, lambda: made.extend(many(2))))

    async def scenario(tail):
        assert await read(tail, start, 2) == made

    following(scenario)


def test_an_event_between_the_reading_and_the_wait_is_not_missed(monkeypatch):
    start, made = record("a.b").id, []
    monkeypatch.setattr(tail_module.Tail, "_read", once(tail_module.Tail._read, lambda: made.extend(many(2))))

    async def scenario(tail):
        assert await read(tail, start, 2) == made

    following(scenario)


def test_an_event_between_the_page_and_the_ring_comes_once(monkeypatch, tails):
    """Committed, and in the ring, after the page was read and before the reader has it."""
    old, made = many(3), []

    def meanwhile():
        made.extend(many(3))
        wait_for(lambda: tails[0].ring.head == made[-1])

    monkeypatch.setattr(tail_module, "read_page", once(tail_module.read_page, meanwhile))

    async def scenario(tail):
        assert await read(tail, old[0] - 1, 6) == old + made

    following(scenario)


def test_an_event_between_the_start_and_the_first_page_comes_once(monkeypatch):
    old = many(3)

    async def scenario(tail):
        cursor = await tail.locate(old[0] - 1)
        live = (await arecord("a.b")).id
        await tail.wait(old[-1], DEADLINE_SECONDS)
        assert await read(tail, cursor, 4) == [*old, live]

    following(scenario)


@pytest.mark.parametrize("ring_bytes", [0, 400])
def test_a_page_that_the_ring_overtakes_leaves_no_hole(monkeypatch, tails, ring_bytes):
    """The ring lets go of everything up to the end of the page, and more, while that is read."""
    monkeypatch.setattr(tail_module, "RING_BYTES", ring_bytes)
    old, made = many(5), []

    def meanwhile():
        made.extend(many(20))
        wait_for(lambda: tails[0].ring.start > made[10])

    monkeypatch.setattr(tail_module, "read_page", once(tail_module.read_page, meanwhile))

    async def scenario(tail):
        assert await read(tail, old[0] - 1, 25) == old + made

    following(scenario)


def test_a_reader_whose_place_in_the_ring_is_gone_reads_on_from_the_database(monkeypatch):
    monkeypatch.setattr(tail_module, "RING_BYTES", 400)

    async def scenario(tail):
        cursor = await tail.locate(None)
        first = await database_sync_to_async(many)(2)
        assert await read(tail, cursor, 2) == first
        later = await database_sync_to_async(many)(20)
        while tail.ring.start <= first[-1]:
            await tail.wait(tail.ring.head, 0.01)
        assert await read(tail, first[0], 21) == [first[1], *later]

    following(scenario)


def test_a_filtered_reader_of_a_ring_that_wraps_misses_none_of_its_own(monkeypatch):
    monkeypatch.setattr(tail_module, "RING_BYTES", 400)
    monkeypatch.setattr(tail_module, "PAGE_ROWS", 3)

    def mixed():
        return [record("a.b", instance="xy"[n % 2]).id for n in range(30)]

    async def scenario(tail):
        cursor = await tail.locate(None)
        made = await database_sync_to_async(mixed)()
        assert await read(tail, cursor, 15, EventFilter(frozenset("x"))) == made[::2]

    following(scenario)


def test_a_tail_may_end_while_a_page_is_read(monkeypatch):
    reading, go_on = threading.Event(), threading.Event()
    read_page = tail_module.read_page

    def slow(*page):
        reading.set()
        go_on.wait(DEADLINE_SECONDS)
        return read_page(*page)

    monkeypatch.setattr(tail_module, "read_page", slow)
    old = many(3)

    async def run():
        async with shared_tail() as tail:
            await tail.wait_for_position(DEADLINE_SECONDS)
            leaving = asyncio.create_task(tail.after(old[0] - 1, EVERYTHING, MUCH))
            await asyncio.to_thread(reading.wait)
            leaving.cancel()
        go_on.set()
        async with shared_tail() as tail:
            await tail.wait_for_position(DEADLINE_SECONDS)
            assert ids((await tail.after(old[0] - 1, EVERYTHING, MUCH)).body) == old

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize("ring_bytes", [0, 2_000, 1_000_000])
def test_readers_at_every_id_there_is_agree(monkeypatch, ring_bytes):
    """Start readers before, between and after the events, as Kubernetes tests its watches."""
    monkeypatch.setattr(tail_module, "RING_BYTES", ring_bytes)
    monkeypatch.setattr(tail_module, "PAGE_ROWS", 7)
    old = many(20)

    async def scenario():
        async with asyncio.TaskGroup() as group:
            at_old = {cursor: group.create_task(sequence(cursor)) for cursor in [old[0] - 1, *old]}
            new = []
            at_new = {}
            for _ in range(20):
                new.append((await arecord("a.b")).id)
                at_new[new[-1]] = group.create_task(sequence(new[-1]))
            end = (await arecord("the.end")).id
        everything = [*old, *new, end]
        for cursor, found in (at_old | at_new).items():
            assert found.result() == [id for id in everything if id > cursor]
        for cursor in everything[:-1]:
            assert await sequence(cursor) == [id for id in everything if id > cursor]

    async def sequence(cursor):
        async with Listener(f"?after={cursor}") as listener:
            opened, *events = await listener.until("the.end")
            assert opened.json() == {"cursor": cursor}
            return ids_of(events)

    asyncio.run(scenario())
