import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from events.log import MAX_DATA_BYTES, MAX_DATA_DEPTH, record
from events.models import LOG_RESTORED, EventLog

pytestmark = pytest.mark.django_db


def test_an_event_is_kept_as_it_was_given():
    at = datetime(2026, 11, 23, 18, 55, 30, 508_000, tzinfo=UTC)
    made = record("deploy.finished", instance="reviewer-default", data={"sha": "abc", "n": [1, None, True]}, at=at)
    kept = EventLog.objects.get(id=made.id)
    assert (kept.type, kept.instance, kept.at) == ("deploy.finished", "reviewer-default", at)
    assert kept.data == {"sha": "abc", "n": [1, None, True]}


def test_what_record_returns_is_what_will_be_read_back():
    data: dict[Any, Any] = {"at": datetime(2026, 1, 1, tzinfo=UTC), "pair": (1, 2), 3: "key"}
    made = record("a.b", data=data)
    assert (
        made.data == EventLog.objects.get(id=made.id).data == {"at": "2026-01-01T00:00:00Z", "pair": [1, 2], "3": "key"}
    )


def test_an_event_needs_no_more_than_a_type_and_happened_now():
    before = timezone.now()
    kept = EventLog.objects.get(id=record("a.b").id)
    assert (kept.instance, kept.data) == ("", {})
    assert before <= kept.at <= timezone.now()


def test_ids_increase():
    first, second = record("a.b"), record("a.b")
    assert second.id > first.id > 0


@pytest.mark.parametrize("type", ["a", "deploy.finished", "Deploy Finished!", "x" * 100, "streams", "opened"])
def test_a_printable_type_is_taken(type):
    assert record(type).type == type


@pytest.mark.parametrize("type", ["", " a", "a ", "x" * 101, "a\nb", "a\rb", "a\x00b", "a\tb", "a\x7f", "café", "a\n"])
def test_a_type_that_is_not_printable_ascii_is_refused(type):
    with pytest.raises(ValueError, match="event type"):
        record(type)


@pytest.mark.parametrize("type", ["stream-open", "stream-reset", "stream-x", "keep-alive", "open", "message", "error"])
def test_the_names_of_the_stream_itself_are_refused(type):
    with pytest.raises(ValueError, match="the stream's own"):
        record(type)


@pytest.mark.parametrize("bad", ["\x00", chr(0xD800), chr(0xDFFF)])
def test_what_postgresql_cannot_keep_is_replaced_everywhere(bad):
    made = record("a.b", instance=f"x{bad}", data={f"k{bad}": [f"v{bad}", {"deep": bad}]})
    kept = EventLog.objects.get(id=made.id)
    assert kept.instance == "x\ufffd"
    assert kept.data == {"k\ufffd": ["v\ufffd", {"deep": "\ufffd"}]}


def test_other_text_is_kept_as_it_is():
    text = "Grüße 🐭 \u2028 \x01 \x7f </script>"
    assert EventLog.objects.get(id=record("a.b", data={"text": text}).id).data == {"text": text}


@pytest.mark.parametrize("character", ["x", "é", "🐭"])
def test_data_of_64_kib_is_kept_and_more_is_refused(character):
    overhead = len('{"text": ""}')
    count = (MAX_DATA_BYTES - overhead) // len(character.encode())
    fits = {"text": character * count}
    assert EventLog.objects.get(id=record("a.b", data=fits).id).data == fits
    with pytest.raises(ValueError, match="65536 bytes"):
        record("a.b", data={"text": character * (count + 1)})


def test_the_size_counts_after_the_replacement():
    with pytest.raises(ValueError, match="65536 bytes"):
        record("a.b", data={"text": "\ud800" * (MAX_DATA_BYTES // 2)})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_has_not_is_refused(number):
    with pytest.raises(ValueError):
        record("a.b", data={"n": number})


def test_data_that_json_cannot_express_is_refused():
    with pytest.raises(TypeError):
        record("a.b", data={"n": object()})


def test_data_nested_too_deeply_to_be_read_everywhere_is_refused():
    deep = json.loads("[" * (MAX_DATA_DEPTH + 1) + "]" * (MAX_DATA_DEPTH + 1))
    with pytest.raises(ValueError, match="nested"):
        record("a.b", data={"deep": deep})
    record("a.b", data={"deep": deep[0]})


def test_an_instance_name_longer_than_the_column_is_refused():
    with pytest.raises(ValueError, match="255"):
        record("a.b", instance="x" * 256)
    assert record("a.b", instance="x" * 255).instance == "x" * 255


def test_a_refused_event_loses_nothing_of_the_transaction():
    with transaction.atomic():
        record("before")
        with pytest.raises(ValueError):
            record("bad", data={"n": float("nan")})
        record("after")
    assert list(EventLog.objects.order_by("id").values_list("type", flat=True)) == ["before", "after"]


def test_an_event_goes_with_its_transaction():
    with transaction.atomic():
        record("a.b")
        transaction.set_rollback(True)
    assert not EventLog.objects.exists()


def test_the_data_given_is_not_changed():
    given = {"text": "\x00"}
    record("a.b", data=given)
    assert given == {"text": "\x00"}


@pytest.mark.parametrize("turn", ["first", "second"])
def test_an_event_that_is_rolled_back_with_its_test_is_not_missed(turn, django_capture_on_commit_callbacks):
    """On SQLite the second turn gives out the id of the first one again, as if the log were an older copy."""
    with django_capture_on_commit_callbacks(execute=True):
        record("a.b")
    assert not EventLog.objects.filter(type=LOG_RESTORED).exists()
