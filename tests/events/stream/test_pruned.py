"""Readers of a log whose beginning goes while they read it, and whose ids have holes."""

import asyncio
import json
import threading

import pytest
from channels.db import database_sync_to_async
from django.db import connection
from django_eventstream.storage import EventDoesNotExist
from django_eventstream.utils import get_storage

from events.log import record
from events.models import EventLog, LogFloor
from events.stream import tail as tail_module
from tests.events.stream.listening import Listener, arecord, ids

pytestmark = pytest.mark.django_db(transaction=True)
prune = database_sync_to_async(EventLog.objects.prune)


def skip_ids(count):
    """Leave ids out, as PostgreSQL does when transactions roll back."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT nextval(pg_get_serial_sequence('event_log', 'id')) FROM generate_series(1, %s)", [count]
            )
        else:
            cursor.execute("UPDATE sqlite_sequence SET seq = seq + %s WHERE name = 'event_log'", [count])


def listening(scenario, query):
    async def run():
        async with Listener(query) as listener:
            return await scenario(listener)

    return asyncio.run(run())


def summary(messages):
    """Types and ids; of a reset, what it says."""
    return [json.loads(m.data) | {"id": int(m.id)} if m.event == "stream-reset" else int(m.id) for m in messages]


def reset(requested, oldest, latest, id):
    return {"requested": requested, "oldest": oldest, "latest": latest, "id": id}


@pytest.fixture
def log():
    """Twelve events, in threes, with holes between them."""
    made = []
    for _ in range(4):
        made += [record("a.b").id for _ in range(3)]
        skip_ids(5)
    return made


def test_a_cursor_in_a_hole_is_no_reason_for_a_reset(log):
    for cursor in (log[2] + 3, log[5] + 1):
        later = [id for id in log if id > cursor]

        async def scenario(listener, cursor=cursor, later=later):
            assert summary(await listener.take(1 + len(later))) == [cursor, *later]

        listening(scenario, f"?after={cursor}")


def test_a_hole_at_the_beginning_is_no_reason_either(log):
    EventLog.objects.prune(log[2])
    for cursor in (log[2], log[2] + 2, log[3] - 1):

        async def scenario(listener, cursor=cursor):
            assert summary(await listener.take(10)) == [cursor, *log[3:]]

        listening(scenario, f"?after={cursor}")


def test_below_the_floor_it_continues_at_the_oldest_and_says_so(log):
    EventLog.objects.prune(log[2])
    for cursor in (0, log[0], log[1]):

        async def scenario(listener, cursor=cursor):
            told = reset(cursor, log[3], log[-1], log[2])
            assert summary(await listener.take(11)) == [log[2], told, *log[3:]]

        listening(scenario, f"?after={cursor}")


def test_a_log_of_which_nothing_is_left_goes_on(log):
    EventLog.objects.prune(log[-1])

    async def scenario(listener):
        assert summary(await listener.take(2)) == [log[-1], reset(0, 0, log[-1], log[-1])]
        new = await arecord("a.b")
        assert (await listener.next()).id == str(new.id)

    listening(scenario, "?after=0")


def test_its_latest_cursor_is_honoured(log):
    EventLog.objects.prune(log[-1])

    async def scenario(listener):
        new = await arecord("a.b")
        assert summary(await listener.take(2)) == [log[-1], new.id]

    listening(scenario, f"?after={log[-1]}")


def test_a_cursor_that_the_ring_could_serve_is_reset_too():
    async def scenario(listener):
        await listener.next()
        made = [(await arecord("a.b")).id for _ in range(4)]
        await listener.take(4)
        await prune(made[1])
        async with Listener(f"?after={made[0]}") as late, Listener(f"?after={made[2]}") as near:
            assert summary(await late.take(4)) == [made[1], reset(made[0], made[2], made[3], made[1]), *made[2:]]
            assert summary(await near.take(2)) == [made[2], made[3]]

    listening(scenario, "")


@pytest.mark.parametrize("until", [4, 7, 11])
def test_a_prune_that_overtakes_a_long_read_is_told(log, monkeypatch, until):
    monkeypatch.setattr(tail_module, "PAGE_ROWS", 2)
    read_page = tail_module.read_page

    def pruned_meanwhile(cursor, *page):
        if cursor == log[3]:
            EventLog.objects.prune(log[until])
        return read_page(cursor, *page)

    monkeypatch.setattr(tail_module, "read_page", pruned_meanwhile)

    async def scenario(listener):
        new = await arecord("a.b")
        kept = [*log[until + 1 :], new.id]
        messages = summary(await listener.take(6 + len(kept)))
        told = messages.pop(5)
        assert messages == [log[0] - 1, *log[:4], *kept]
        assert (told["requested"], told["id"]) == (log[3], log[until])

    listening(scenario, f"?after={log[0] - 1}")


def test_a_prune_that_has_only_raised_the_floor_is_told_as_well(log):
    LogFloor.raise_to(log[2])

    async def scenario(listener):
        assert summary(await listener.take(11)) == [log[2], reset(0, log[3], log[-1], log[2]), *log[3:]]

    listening(scenario, "?after=0")


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_prune_that_overtakes_the_tail_is_told(monkeypatch, left):
    """After a long outage, rows that this process has not read yet have been pruned."""
    has_read, may_read = threading.Event(), threading.Event()
    read = tail_module.Tail._read
    seen = record("a.b").id

    def held_up(tail):
        if has_read.is_set():
            may_read.wait(60)
        read(tail)
        has_read.set()

    monkeypatch.setattr(tail_module.Tail, "_read", held_up)

    async def scenario(listener):
        await listener.next()
        await asyncio.to_thread(has_read.wait, 60)
        made = [(await arecord("a.b")).id for _ in range(5)]
        await prune(made[-1 - left])
        may_read.set()
        told, *messages = await listener.take(1 + left)
        assert (told.event, told.id) == ("stream-reset", str(made[-1 - left]))
        assert ids(messages) == made[len(made) - left :]
        new = await arecord("a.b")
        assert (await listener.next()).id == str(new.id)

    try:
        listening(scenario, f"?after={seen}")
    finally:
        may_read.set()


def test_the_storage_knows_what_is_pruned_and_what_is_a_hole(log):
    EventLog.objects.prune(log[2])
    for cursor in (log[2], log[2] + 3, log[-1]):
        found = get_storage().get_events("events", cursor)
        assert [event.id for event in found] == [id for id in log if id > cursor]
    for cursor in (0, log[1], log[-1] + 1):
        with pytest.raises(EventDoesNotExist) as error:
            get_storage().get_events("events", cursor)
        assert error.value.current_id == log[-1]


def test_the_storage_of_a_log_of_which_nothing_is_left(log):
    EventLog.objects.prune(log[-1])
    assert get_storage().get_events("events", log[-1]) == []
    assert get_storage().get_current_id("events") == log[-1]
    with pytest.raises(EventDoesNotExist):
        get_storage().get_events("events", log[0])
