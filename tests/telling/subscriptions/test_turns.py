"""A turn delivers in order, skips nothing, and notes how far it came."""

import uuid
from datetime import timedelta

import pytest

from events.log import record
from events.models import LOG_RESTORED, EventLog, LogFloor
from lifecycle.clock import Clock
from telling.subscriptions.batches import BATCH_ROWS
from telling.subscriptions.models import PATIENCE, Subscription
from telling.subscriptions.turns import SHORT_PAUSES, TURN_SECONDS, Turn
from tests.telling.subscriptions.receivers import answer, fails_every_second_time, healthy


class Hand(Clock):
    """A clock whose wall time the test moves, and which does not sleep."""

    def __init__(self):
        self.ahead = timedelta()
        self.slept = []
        #: How far the monotonic clock is ahead.
        self.seconds_ahead = 0.0

    def now(self):
        return super().now() + self.ahead

    def monotonic(self):
        return super().monotonic() + self.seconds_ahead

    def sleep(self, seconds):
        self.slept.append(seconds)


@pytest.fixture
def clock():
    return Hand()


@pytest.fixture
def turn(clock):
    """Lets a subscription have a turn, as another process each time, and returns the row after that."""

    def take(row, may_go_on=lambda: True):
        row.refresh_from_db()
        assert Subscription.objects.claim(row, uuid.uuid4())
        Turn(row, clock, may_go_on).run()
        row.refresh_from_db()
        return row

    return take


def record_many(count, type="a.b", **values):
    return [record(type, **values).id for _ in range(count)]


def test_all_events_come_in_order(receive, subscribe, turn):
    receiver = receive()
    row, secret = subscribe(receiver.url)
    ids = record_many(2 * BATCH_ROWS + 7)
    assert turn(row).cursor == ids[-1]
    assert receiver.ids() == ids
    assert receiver.verify(secret) == len(ids)
    assert row.delivered
    assert row.state() == "delivering"


def test_an_event_is_as_on_the_stream_and_never_cut(receive, subscribe, turn):
    receiver = receive()
    row, _ = subscribe(receiver.url)
    event = record("deploy.finished", instance="reviewer-default", data={"text": "ü" * 30_000, "n": 1.5})
    turn(row)
    (cloud_event,) = receiver.events()
    assert cloud_event["type"] == "deploy.finished"
    assert cloud_event["subject"] == "reviewer-default"
    assert cloud_event["data"] == event.payload()
    assert cloud_event["time"] == event.payload()["at"]


def test_output_leaves_only_if_it_is_asked_for(receive, subscribe, turn):
    receivers = [receive(), receive()]
    rows = [subscribe(receivers[0].url, "a")[0], subscribe(receivers[1].url, "b", output=True)[0]]
    record("container.lazy_start_failed", instance="x", data={"error": "exited", "log_tail": "s3cret"})
    for row in rows:
        turn(row)
    without, with_output = (receiver.events()[0] for receiver in receivers)
    assert "log_tail" not in without["data"]
    assert with_output["data"]["log_tail"] == "s3cret"
    assert without["id"] == with_output["id"]


def test_the_same_number_is_another_id_if_it_is_another_event(receive, subscribe, turn):
    receiver = receive()
    row, _ = subscribe(receiver.url)
    record("a.b", data={"n": 1})
    record("a.b", data={"n": 2})
    turn(row)
    tags = [event["id"].partition("-")[2] for event in receiver.events()]
    assert len(set(tags)) == 2
    Subscription.objects.resume(cursor=0)
    turn(row)
    assert [event["id"].partition("-")[2] for event in receiver.events()] == tags * 2


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["a.b", "container.exited", "Container.x", "containers.y", "container.enabled"]),
        ({"types": ["container.*"]}, ["container.exited", "container.enabled"]),
        ({"types": ["a.b", "container.enabled"]}, ["a.b", "container.enabled"]),
        ({"instances": ["one"]}, ["container.exited"]),
        ({"failures": True}, ["container.exited"]),
        ({"types": ["a.*"], "failures": True}, []),
        ({"types": ["100%.*", "_.b"]}, []),
    ],
)
def test_filters(receive, subscribe, turn, filters, expected):
    receiver = receive()
    row, _ = subscribe(receiver.url, **filters)
    record("a.b")
    exit = {"exit_code": 1, "cause": "exited", "ran_seconds": 1, "work_in_flight": 1}
    record("container.exited", instance="one", data=exit)
    record("Container.x")
    record("containers.y")
    last = record("container.enabled", instance="two", data={"reason": ""})
    assert turn(row).cursor == last.id
    assert [event["type"] for event in receiver.events()] == expected


def test_an_exit_whose_data_are_odd_counts_as_a_failure(receive, subscribe, turn):
    receiver = receive()
    row, _ = subscribe(receiver.url, failures=True)
    record("container.exited", instance="one", data={})
    record("container.exited", instance="one", data={"exit_code": 0, "work_in_flight": 0})
    turn(row)
    assert len(receiver.taken) == 1


def test_a_failure_is_tried_again_at_once_and_nothing_is_skipped(receive, subscribe, turn, clock):
    receiver = receive(fails_every_second_time)
    row, _ = subscribe(receiver.url)
    ids = record_many(20)
    assert turn(row).cursor == ids[-1]
    assert receiver.ids() == ids
    assert clock.slept == [SHORT_PAUSES[0]] * 20
    assert row.state() == "delivering"


def test_pauses_grow_up_to_an_hour_and_end_with_a_success(receive, subscribe, turn, clock):
    receiver = receive(answer(500))
    row, _ = subscribe(receiver.url)
    ids, pauses = record_many(3), []
    for _ in range(15):
        turn(row)
        pauses.append(round((row.next_try - clock.now()).total_seconds()))
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600, 3600]
    assert row.state() == "failing"
    assert row.error == "it answered 500"
    receiver.behave = healthy
    turn(row)
    assert receiver.ids() == ids
    assert (row.state(), row.error, row.tries) == ("delivering", "", 0)


def test_the_receiver_may_ask_for_a_longer_pause(receive, subscribe, turn, clock):
    receiver = receive(answer(503, Retry_After="120"))
    row, _ = subscribe(receiver.url)
    record_many(1)
    assert round((turn(row).next_try - clock.now()).total_seconds()) == 120
    assert len(receiver.requests) == 1


def test_it_is_paused_after_three_days_of_failures_and_goes_on_where_it_was(receive, subscribe, turn, clock):
    receiver = receive(answer(500))
    row, _ = subscribe(receiver.url)
    ids = record_many(2)
    turn(row)
    clock.ahead = PATIENCE - timedelta(minutes=1)
    assert turn(row).state() == "failing"
    clock.ahead = PATIENCE + timedelta(minutes=1)
    assert turn(row).state() == "paused"
    assert row.error == "No delivery succeeded for 3 days. The latest failure: it answered 500"
    receiver.behave = healthy
    Subscription.objects.filter(pk=row.pk).resume()
    assert turn(row).state() == "delivering"
    assert receiver.ids() == ids


def test_it_is_paused_at_once_by_410(receive, subscribe, turn):
    row, _ = subscribe(receive(answer(410)).url)
    record_many(1)
    assert turn(row).state() == "paused"
    assert "410" in row.error


def test_pruned_events_are_told_before_those_that_are_left(receive, subscribe, turn):
    receiver = receive()
    row, _ = subscribe(receiver.url, types=["a.b"], cursor=0)
    ids = record_many(5)
    LogFloor.raise_to(ids[2])
    turn(row)
    reset, *rest = receiver.events()
    assert reset["type"] == "dormouse.log.reset"
    assert reset["data"] | {"at": ""} == {"reason": "pruned", "requested": 0, "cursor": ids[2], "at": ""}
    assert receiver.ids()[1:] == ids[3:]
    assert len(rest) == 2


def test_a_reset_that_is_repeated_has_the_same_id(receive, subscribe, turn):
    receiver = receive()
    row, _ = subscribe(receiver.url)
    LogFloor.raise_to(record_many(2)[-1])
    for _ in range(2):
        Subscription.objects.resume(cursor=0)
        turn(row)
    assert len({event["id"] for event in receiver.events()}) == 1


def test_a_replaced_log_is_told_whatever_the_filter(receive, subscribe, turn):
    receivers = [receive(), receive()]
    rows = [subscribe(receivers[0].url, "a", types=["x.y"])[0], subscribe(receivers[1].url, "b")[0]]
    record_many(1)
    EventLog.objects.create(type=LOG_RESTORED, data={"from": 2, "to": 5}, at=Clock().now())
    for row in rows:
        turn(row)
    filtered, all_of_them = ([event["type"] for event in receiver.events()] for receiver in receivers)
    assert filtered == ["dormouse.log.reset"]
    assert all_of_them == ["a.b", "dormouse.log.reset", LOG_RESTORED]
    assert receivers[0].events()[0]["data"]["from"] == 2


def test_a_turn_of_a_lost_claim_moves_no_cursor(receive, subscribe, turn, clock):
    receiver = receive()
    row, _ = subscribe(receiver.url)
    ids = record_many(3)
    assert Subscription.objects.claim(row, uuid.uuid4())
    Subscription.objects.filter(pk=row.pk).resume(cursor=ids[1])  # a person replays meanwhile
    Turn(row, clock, lambda: True).run()
    row.refresh_from_db()
    assert row.cursor == ids[1]


def test_only_one_of_two_claims_of_what_was_read_succeeds(subscribe):
    row, _ = subscribe("https://example.org/")
    again = Subscription.objects.get(pk=row.pk)
    assert Subscription.objects.claim(row, uuid.uuid4())
    assert not Subscription.objects.claim(again, uuid.uuid4())


def test_a_process_whose_heartbeat_is_overdue_sends_nothing_more(receive, subscribe, turn):
    receiver = receive()
    row, _ = subscribe(receiver.url)
    ids = record_many(10)
    allowed = iter([True] * 5)
    turn(row, may_go_on=lambda: next(allowed, False))
    assert receiver.ids() == ids[:4]
    assert row.cursor == ids[3]


def test_a_process_whose_heartbeat_is_overdue_tries_nothing_again(receive, subscribe, turn):
    """A try may take a minute, and another process may deliver the same by then."""
    receiver = receive(answer(500))
    row, _ = subscribe(receiver.url)
    record_many(1)
    allowed = iter([True] * 2)
    turn(row, may_go_on=lambda: next(allowed, False))
    assert len(receiver.requests) == 1


def test_a_turn_ends_in_time_although_its_receiver_is_slow(receive, subscribe, turn, clock):
    """Others wait for theirs if there are more subscriptions than threads."""

    def behave(request, number):
        clock.seconds_ahead += TURN_SECONDS / 4
        healthy(request, number)

    receiver = receive(behave)
    row, _ = subscribe(receiver.url)
    ids = record_many(10)
    assert turn(row).cursor == ids[3]
    turn(row)
    turn(row)
    assert receiver.ids() == ids


def test_a_turn_goes_on_after_a_batch_whose_last_event_does_not_fit(receive, subscribe, turn):
    receiver = receive()
    row, _ = subscribe(receiver.url, failures=True)
    no_failure = {"exit_code": 0, "cause": "exited", "ran_seconds": 1, "work_in_flight": 0}
    record_many(BATCH_ROWS, "container.exited", instance="one", data=no_failure)
    last = record("container.exited", instance="one", data=no_failure | {"exit_code": 1})
    assert turn(row).cursor == last.id
    assert receiver.ids() == [last.id]


def test_a_changed_secret_key_pauses_with_the_reason(receive, subscribe, turn, settings):
    receiver = receive()
    row, _ = subscribe(receiver.url)
    record_many(1)
    settings.SECRET_KEY = "another"
    assert turn(row).state() == "paused"
    assert "DJANGO_SECRET_KEY has changed" in row.error
    assert not receiver.requests


def test_settings_that_forbid_it_later_are_a_failure(receive, subscribe, turn, settings):
    receiver = receive()
    program, _ = subscribe(receiver.url)
    person, _ = subscribe(receiver.url.replace("http", "json"), "json")
    record_many(1)
    settings.DORMOUSE_WEBHOOK_PRIVATE = False
    assert "plain http is only for private networks" in turn(program).error
    assert "needs DORMOUSE_WEBHOOK_PRIVATE" in turn(person).error
    settings.DORMOUSE_PUBLIC_URL = ""
    assert "DORMOUSE_PUBLIC_URL is not set" in turn(program).error
    assert not receiver.requests


def test_a_key_before_goes_on_and_can_be_forgotten_after_a_start(subscribe, settings):
    row, secret = subscribe("https://example.org/in")
    new_secret = row.rotate_secret(Clock().now() + timedelta(hours=1))
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another"
    row.refresh_from_db()
    assert row.open_url() == "https://example.org/in"
    Subscription.objects.reseal()
    settings.SECRET_KEY_FALLBACKS = []
    row.refresh_from_db()
    assert row.open_url() == "https://example.org/in"
    assert row.open_secrets(Clock().now()) == [new_secret, secret]


def test_what_cannot_be_read_is_left_as_it_is(subscribe, settings):
    row, _ = subscribe("https://example.org/in")
    settings.SECRET_KEY = "another"
    Subscription.objects.reseal()
    assert Subscription.objects.get().url == row.url


def test_the_database_holds_neither_the_url_nor_the_secret(subscribe):
    row, secret = subscribe("https://user:s3cret@example.org/in?token=s3cret")
    kept = str(Subscription.objects.filter(pk=row.pk).values().get())
    assert "s3cret" not in kept
    assert secret not in kept
    assert row.open_url() == "https://user:s3cret@example.org/in?token=s3cret"
