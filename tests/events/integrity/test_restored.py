"""A log that is replaced by an older copy of itself: no id is given out twice, and readers are told what is gone."""

import asyncio
import json
from io import StringIO

import pytest
from channels.db import database_sync_to_async
from django.core.management import CommandError, call_command
from django.db import transaction
from django_eventstream.storage import EventDoesNotExist
from django_eventstream.utils import get_storage

from events.integrity import high_water, triggers
from events.log import record, skip_past_mark
from events.models import LOG_RESTORED, EventLog
from tests.conftest import forget_highest_id
from tests.events.stream.listening import Listener, arecord

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def the_mark_is_not_that_of_other_tests(settings, tmp_path):
    settings.VAR_DIR = tmp_path


def restore(latest):
    """Put the log back to what it was when `latest` was its latest event."""
    triggers.remove()
    EventLog.objects.filter(id__gt=latest).delete()
    high_water._move_sequence(latest)
    triggers.install()


def gone():
    return [event.data for event in EventLog.objects.filter(type=LOG_RESTORED)]


def made(count):
    return [record("a.b").id for _ in range(count)]


@pytest.mark.parametrize("known_by", ["memory", "file"])
def test_the_next_event_gets_an_id_above_all_that_were_seen(known_by):
    ids = made(5)
    restore(ids[1])
    high_water._marks.clear() if known_by == "file" else high_water.mark_path().unlink()
    new = record("a.b").id
    assert new > ids[-1]
    assert gone() == [{"from": ids[2], "to": ids[-1]}]
    assert list(EventLog.objects.order_by("id").values_list("id", flat=True)) == [*ids[:2], new - 1, new]


def test_nothing_is_told_if_nothing_was_restored():
    made(3)
    assert not high_water.is_behind()
    skip_past_mark()
    assert gone() == []


def test_an_event_that_was_rolled_back_raises_no_mark():
    (first,) = made(1)
    with transaction.atomic():
        record("a.b")
        transaction.set_rollback(True)
    assert high_water.read_mark() == first


def test_what_is_gone_is_told_even_if_the_first_try_is_rolled_back():
    ids = made(5)
    restore(ids[1])
    with transaction.atomic():
        record("a.b")
        transaction.set_rollback(True)
    assert record("a.b").id > ids[-1]
    assert gone() == [{"from": ids[2], "to": ids[-1]}]


def test_a_mark_that_cannot_be_saved_stays_in_memory(settings, tmp_path, caplog):
    settings.VAR_DIR = tmp_path / "missing"
    ids = made(3)
    assert "could not be saved" in caplog.text
    restore(ids[0])
    assert record("a.b").id > ids[-1]


@pytest.mark.parametrize("text", [b"", b"x", b"\0\0", b"12\n7", b"x" * 100])
def test_a_damaged_file_is_no_mark(text):
    high_water.mark_path().parent.mkdir()
    high_water.mark_path().write_bytes(text)
    assert high_water.read_mark() == 0
    assert made(1) == [high_water.read_mark()]


@pytest.mark.parametrize("was_read_by", ["the stream", "the library", "the page"])
@pytest.mark.parametrize("grown", [0, 10])
def test_a_returning_reader_is_told_only_if_its_cursor_is_gone(admin_client, was_read_by, grown):
    ids = made(5)
    restore(ids[1])
    new = made(1 + grown)
    is_told = {"the stream": told_by_stream, "the library": told_by_library, "the page": told_by_page}[was_read_by]
    told = [is_told(cursor, admin_client) for cursor in (ids[0], ids[1], *ids[2:], new[0] - 1, new[0])]
    assert told == [False, False, True, True, True, False, False]


def told_by_stream(cursor, client):
    async def scenario():
        async with Listener(f"?after={cursor}") as listener:
            first, second = await listener.next(), await second_message(listener)
            assert first.event == "stream-open"
            return second == "stream-reset"

    return asyncio.run(scenario())


async def second_message(listener):
    """Return the type of the second message. An event is recorded, so that there is one."""
    await arecord("c.d")
    return (await listener.next()).event


def told_by_library(cursor, client):
    try:
        get_storage().get_events("events", cursor)
    except EventDoesNotExist:
        return True
    return False


def told_by_page(cursor, client):
    return "Dormouse-Reset" in client.get(f"/agents/activity?after={cursor}").headers


def test_a_connected_reader_is_told_and_gets_everything_that_is_new():
    ids = made(5)

    async def scenario():
        async with Listener(f"?after={ids[3]}") as ahead, Listener(f"?after={ids[4]}") as latest:
            assert [(await ahead.next()).event, (await ahead.next()).id] == ["stream-open", str(ids[4])]
            await latest.next()
            await database_sync_to_async(restore)(ids[1])
            for listener in (ahead, latest):
                reset, restored = await listener.take(2)
                assert (reset.event, reset.id) == ("stream-reset", str(ids[1]))
                assert json.loads(reset.data)["requested"] == ids[4]
                assert (restored.event, json.loads(restored.data)["to"]) == (LOG_RESTORED, ids[4])
            new = await arecord("a.b")
            assert [(await listener.next()).id for listener in (ahead, latest)] == [str(new.id)] * 2

    asyncio.run(scenario())


def test_by_hand_if_the_marks_are_lost():
    ids = made(5)
    restore(ids[1])
    forget_highest_id()
    (twice,) = made(1)
    assert twice == ids[2]
    said = StringIO()
    call_command("restored", "--above", str(ids[-1]), stdout=said)
    assert "gets an id above" in said.getvalue()
    assert gone() == [{"from": ids[3], "to": ids[-1]}]
    assert record("a.b").id > ids[-1]
    call_command("restored", "--above", str(ids[-1]), stdout=said)
    assert "Nothing to do" in said.getvalue()


@pytest.mark.parametrize("above", ["0", "-1", str(10**18)])
def test_what_is_no_id_is_refused(above):
    with pytest.raises(CommandError):
        call_command("restored", "--above", above)


def test_no_program_can_say_that_the_log_was_restored():
    with pytest.raises(ValueError, match="no event type"):
        record(LOG_RESTORED, data={"from": 1, "to": 2})
