"""How long a connection lives and what it may cost: the consumer in the test's own event loop, with small limits."""

import asyncio
import logging

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError

from events.log import record
from events.models import EventLog
from events.stream import consumer as consumers
from events.stream import reader as readers
from events.stream import tail as tail_module
from events.stream.consumer import EventStream
from events.stream.reader import Limits
from tests.events.stream.listening import Listener, arecord, ids

pytestmark = pytest.mark.django_db(transaction=True)


def listening(scenario, *args, **kwargs):
    async def run():
        async with Listener(*args, **kwargs) as listener:
            return await scenario(listener)

    return asyncio.run(run())


def test_silence_is_broken_with_the_cursor():
    latest = record("a.b").id

    async def scenario(listener):
        _, first, second = await listener.take(3)
        for message in (first, second):
            assert (message.event, message.id, message.json()) == ("keep-alive", str(latest), {"cursor": latest})

    listening(scenario, limits=Limits(keep_alive_seconds=0.01))


def test_a_filtered_readers_cursor_moves_on_in_its_silence():
    async def scenario(listener):
        await listener.next()
        row = await arecord("a.b", instance="other")
        message = await listener.next()
        while message.id != str(row.id):
            message = await listener.next()
        assert (message.event, message.json()) == ("keep-alive", {"cursor": row.id})

    listening(scenario, "?instance=mine", limits=Limits(keep_alive_seconds=0.02))


def test_a_filtered_reader_hears_something_even_when_others_are_never_silent():
    async def scenario(listener):
        await listener.next()
        writing = asyncio.create_task(write_for_ever())
        assert (await listener.next()).event == "keep-alive"
        writing.cancel()

    async def write_for_ever():
        while True:
            await arecord("a.b", instance="other")

    listening(scenario, "?instance=mine", limits=Limits(keep_alive_seconds=0.05))


def test_a_connection_lives_only_so_long():
    latest = record("a.b").id

    async def scenario(listener):
        _, goodbye = await listener.take(2)
        assert (goodbye.event, goodbye.id) == ("stream-end", str(latest))
        assert goodbye.json() == {"cursor": latest, "reason": "limit"}
        await listener.closed()
        assert listener.ended

    listening(scenario, limits=Limits(lifetime_seconds=0.02))


class Stalling(Listener):
    """Takes the opening and one event, and then no more; only the end of a response does not wait for that."""

    async def _send(self, message):
        if message.get("more_body") and b"event: a.b" in self.body:
            await asyncio.Event().wait()
        await super()._send(message)


def test_one_that_does_not_read_is_said_goodbye_in_time_and_told_where_to_go_on(monkeypatch):
    monkeypatch.setattr(readers, "CHUNK_BYTES", 100)
    made = [record("a.b").id for _ in range(5)]

    async def run():
        async with Stalling(f"?after={made[0] - 1}", limits=Limits(lifetime_seconds=0.5)) as listener:
            _, event, goodbye = await listener.take(3)
            await listener.closed()
        assert event.id == str(made[0])
        assert (goodbye.event, goodbye.json()) == ("stream-end", {"cursor": made[0], "reason": "limit"})
        assert EventStream.slots.taken == 0

    asyncio.run(run())


def test_a_connection_sends_only_so_much_and_names_where_to_go_on():
    made = [record("a.b", data={"text": "x" * 100}).id for _ in range(20)]

    async def read(cursor):
        async with Listener(f"?after={cursor}", limits=Limits(max_bytes=1000)) as listener:
            messages = await listener.until("stream-end")
        assert messages[-1].json() == {"cursor": int(messages[-2].id), "reason": "limit"}
        assert len(listener.body) <= 1000 + 100  # the goodbye
        return ids(messages[1:-1])

    async def scenario():
        seen = [made[0] - 1]
        while len(seen) < 12:
            seen += await read(seen[-1])
        return seen[1:]

    seen = asyncio.run(scenario())
    assert seen == made[: len(seen)]


def test_a_connection_sends_at_least_one_event():
    row = record("a.b", data={"text": "x" * 1000})
    record("a.b")

    async def scenario(listener):
        return [message.event for message in await listener.until("stream-end")]

    query = f"?after={row.id - 1}"
    assert listening(scenario, query, limits=Limits(max_bytes=500)) == ["stream-open", "a.b", "stream-end"]


def test_the_limits_of_the_contract():
    assert EventStream.limits == Limits(2000, 15, 55, 600, 4_000_000)


def test_what_is_pruned_under_a_long_read_is_reported(monkeypatch):
    monkeypatch.setattr(tail_module, "PAGE_ROWS", 2)
    made = [record("a.b").id for _ in range(9)]
    read_page = tail_module.read_page

    def pruned_meanwhile(cursor, *page):
        if cursor == made[1]:
            EventLog.objects.prune(made[4])
        return read_page(cursor, *page)

    monkeypatch.setattr(tail_module, "read_page", pruned_meanwhile)

    async def scenario(listener):
        messages = await listener.take(3 + 1 + 4)
        assert [message.event for message in messages] == ["stream-open", *["a.b"] * 2, "stream-reset", *["a.b"] * 4]
        reset = messages[3]
        assert reset.json() == {"requested": made[1], "oldest": made[5], "latest": made[8]}
        assert reset.id == str(made[4])
        assert ids(messages[4:]) == made[5:]

    listening(scenario, f"?after={made[0] - 1}")


def test_a_hang_up_frees_the_place_at_once():
    async def scenario(listener):
        await listener.next()
        assert EventStream.slots.taken == 1
        listener.hang_up()
        await listener.closed()
        assert EventStream.slots.taken == 0
        assert not EventStream.slots.taken_by

    listening(scenario)


def test_a_hang_up_before_the_answer_is_no_error():
    async def run():
        async with Listener():
            pass

    asyncio.run(run())
    assert EventStream.slots.taken == 0


def test_a_stop_before_the_opening_names_no_cursor(monkeypatch):
    locating = asyncio.Event()

    async def hang(*args):
        locating.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(tail_module.Tail, "locate", hang)

    async def scenario(listener):
        await locating.wait()
        listener.task.cancel()
        await asyncio.wait([listener.task])
        assert (listener.status, listener.body) == (200, b"")

    listening(scenario)


def test_each_person_has_places_of_their_own(settings):
    settings.DORMOUSE_MAX_STREAMS_PER_USER = 1
    one, other = User.objects.create_user("one"), User.objects.create_user("other")

    async def scenario(listener):
        await listener.next()
        async with Listener(user=one) as again, Listener(user=other) as others:
            assert (await again.closed())["status"] == 429
            assert (await others.next()).event == "stream-open"

    listening(scenario, user=one)


def test_an_error_ends_the_stream_and_is_logged(monkeypatch, caplog):
    async def fail(*args):
        raise OperationalError("disk I/O error")

    async def scenario(listener):
        await listener.next()
        monkeypatch.setattr(tail_module.Tail, "after", fail)
        await arecord("a.b")
        await listener.closed()
        assert listener.ended

    listening(scenario, limits=Limits(keep_alive_seconds=0.01))
    assert "disk I/O error" in caplog.text


def test_an_error_before_the_stream_is_a_problem_without_detail(monkeypatch):
    monkeypatch.setattr(consumers, "refusal", None)

    async def scenario(listener):
        assert (await listener.closed())["status"] == 500

    logging.getLogger("events.stream.consumer").disabled = True
    try:
        listening(scenario)
    finally:
        logging.getLogger("events.stream.consumer").disabled = False


def test_a_database_that_does_not_answer_is_tried_again_later():
    async def fail(permission):
        raise OperationalError("no database")

    async def scenario():
        listener = Listener()
        listener._scope["has_perm"] = fail
        async with listener:
            assert (await listener.closed())["status"] == 503
            assert listener.headers["retry-after"]

    asyncio.run(scenario())


def test_a_log_that_cannot_be_read_is_tried_again_later(monkeypatch):
    def fail():
        raise OperationalError("no database")

    monkeypatch.setattr(tail_module, "watch_commits", fail)
    monkeypatch.setattr(consumers, "TAIL_SECONDS", 0.05)

    async def scenario(listener):
        assert (await listener.closed())["status"] == 503
        assert listener.headers["retry-after"]

    listening(scenario)


def test_a_large_answer_goes_out_in_pieces(monkeypatch):
    monkeypatch.setattr(readers, "CHUNK_BYTES", 100)
    made = [record("a.b").id for _ in range(10)]

    async def scenario(listener):
        assert ids(await listener.take(11))[1:] == made

    listening(scenario, f"?after={made[0] - 1}")
