import json

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.db import transaction
from django_eventstream import get_current_event_id, send_event
from django_eventstream.storage import EventDoesNotExist
from django_eventstream.utils import get_channelmanager, get_storage

from access.identity.tokens import TokenUser
from events.eventstream import EventLogChannelManager, EventLogStorage, encode
from events.log import record
from events.models import EventLog

pytestmark = pytest.mark.django_db


def test_the_settings_name_both_classes():
    assert isinstance(get_storage(), EventLogStorage)
    assert isinstance(get_channelmanager(), EventLogChannelManager)


def test_what_any_app_sends_is_an_event_of_the_log():
    send_event("events", "deploy.finished", {"instance": "reviewer-default", "sha": "abc"})
    row = EventLog.objects.get()
    assert (row.type, row.instance) == ("deploy.finished", "reviewer-default")
    assert row.data == {"instance": "reviewer-default", "sha": "abc"}


@pytest.mark.parametrize("data", ["text", 7, None, [1, 2], True, '{"not": "parsed twice"}'])
def test_data_that_is_no_object_is_kept_as_its_value(data):
    send_event("events", "a.b", data)
    assert EventLog.objects.get().data == {"value": data}


def test_a_text_that_was_not_encoded_is_kept_as_its_value():
    send_event("events", "a.b", "no json", json_encode=False)
    assert EventLog.objects.get().data == {"value": "no json"}


@pytest.mark.parametrize("instance", [7, None, ["x"]])
def test_an_instance_that_is_no_text_is_only_data(instance):
    send_event("events", "a.b", {"instance": instance})
    row = EventLog.objects.get()
    assert (row.instance, row.data) == ("", {"instance": instance})


def test_only_the_channel_events_is_logged():
    send_event("other", "a.b", {})
    assert not EventLog.objects.exists()


def test_the_log_refuses_through_send_event_too():
    with pytest.raises(ValueError):
        send_event("events", "stream-open", {})
    assert not EventLog.objects.exists()


def test_an_event_that_was_sent_goes_with_the_senders_transaction():
    with transaction.atomic():
        send_event("events", "a.b", {})
        transaction.set_rollback(True)
    assert not EventLog.objects.exists()


def test_the_storage_reads_what_follows_an_id():
    first, second, third = (record("a.b", data={"n": n}) for n in range(3))
    read = get_storage().get_events("events", first.id)
    assert [(event.id, event.type, json.loads(event.data)["n"]) for event in read] == [
        (second.id, "a.b", 1),
        (third.id, "a.b", 2),
    ]
    assert [event.id for event in get_storage().get_events("events", first.id, limit=1)] == [second.id]


def test_the_storage_knows_the_current_id():
    assert get_storage().get_current_id("events") == 0
    row = record("a.b")
    assert get_storage().get_current_id("events") == row.id
    assert get_current_event_id(["events"]) == f"events:{row.id}"


def test_the_storage_has_nothing_in_an_empty_log():
    assert get_storage().get_events("events", 0) == []


def test_the_storage_says_when_an_id_is_not_kept():
    gone, row = record("a.b"), record("a.b")
    EventLog.objects.prune(gone.id)
    assert [event.id for event in get_storage().get_events("events", gone.id)] == [row.id]
    for lost in (gone.id - 1, row.id + 1):
        with pytest.raises(EventDoesNotExist) as error:
            get_storage().get_events("events", lost)
        assert error.value.current_id == row.id


def test_the_channel_is_for_those_who_may_view_events():
    may_read = EventLogChannelManager().can_read_channel
    viewer, nobody = User.objects.create_user("viewer"), User.objects.create_user("nobody")
    viewer.user_permissions.add(Permission.objects.get(codename="view_eventlog"))
    assert may_read(viewer, "events")
    assert may_read(TokenUser(), "events")
    assert not may_read(viewer, "other")
    assert not any(may_read(user, "events") for user in (nobody, AnonymousUser(), None))


def test_an_event_is_encoded_on_one_line_whatever_its_data():
    row = record("a.b", instance="x", data={"text": "a\r\nb\n\nevent: forged\u2028ü", "at": "mine", "instance": "y"})
    lines = encode(row).decode().split("\n")
    assert lines[:2] == ["event: a.b", f"id: {row.id}"]
    assert lines[3:] == ["", ""]
    sent = json.loads(lines[2].removeprefix("data: "))
    assert sent["text"] == "a\r\nb\n\nevent: forged\u2028ü"
    assert (sent["instance"], sent["at"]) == ("x", row.payload()["at"])
