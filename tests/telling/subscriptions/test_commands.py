"""The commands for subscriptions."""

import io

import pytest
from django.core.management import CommandError, call_command

from events.log import record
from telling.subscriptions.models import Subscription
from tests.telling.subscriptions.receivers import answer

URL = "https://user:s3cret@example.org/in"


def run(capsys, *arguments):
    call_command(*arguments)
    return capsys.readouterr().out


def secret_in(out):
    return next(word for word in out.split() if word.startswith("whsec_"))


@pytest.mark.django_db
def test_it_begins_now_and_the_secret_is_shown_once(capsys):
    latest = record("a.b").id
    out = run(capsys, "subscribe", URL)
    assert f"example.org: https://***@example.org/in is told of events after {latest}." in out
    assert Subscription.objects.get().open_secrets(Subscription.objects.get().created) == [secret_in(out)]
    shown = run(capsys, "list_subscriptions")
    assert "whsec_" not in shown
    assert "s3cret" not in out + shown


@pytest.mark.django_db
def test_the_url_may_come_from_standard_input(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{URL}\n"))
    run(capsys, "subscribe", "-")
    assert Subscription.objects.get().open_url() == URL


@pytest.mark.django_db
def test_all_options(capsys):
    options = [
        "--name",
        "ci",
        "--types",
        "container.*",
        "work.failed",
        "--instances",
        "a",
        "b",
        "--failures",
        "--output",
    ]
    run(capsys, "subscribe", URL, *options, "--after", "0")
    row = Subscription.objects.get(name="ci")
    assert (row.types, row.instances) == (["container.*", "work.failed"], ["a", "b"])
    assert (row.failures, row.output, row.cursor) == (True, True, 0)
    assert "failures of container.*, work.failed of a, b" in run(capsys, "list_subscriptions")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["ftp://s3cret.example.org"], "scheme must be"),
        (["https://s3cret.example.org/#x"], "fragment"),
        ([URL, "--after", "1000"], "the latest"),
        ([URL, "--after", "-1"], "the latest"),
        ([URL, "--name", "a b"], "valid"),
        ([URL, "--name", "x" * 101], "at most 100"),
    ],
)
def test_what_cannot_be_subscribed_creates_nothing(arguments, reason):
    with pytest.raises(CommandError, match=reason) as error:
        call_command("subscribe", *arguments)
    assert "s3cret" not in str(error.value)
    assert not Subscription.objects.exists()


@pytest.mark.django_db
def test_a_name_is_given_once(capsys):
    assert "example.org:" in run(capsys, "subscribe", URL)
    assert "example.org-2:" in run(capsys, "subscribe", URL)
    with pytest.raises(CommandError, match="already exists"):
        call_command("subscribe", URL, "--name", "example.org")


@pytest.mark.django_db
def test_the_public_url_is_needed(settings):
    settings.DORMOUSE_PUBLIC_URL = ""
    with pytest.raises(CommandError, match="DORMOUSE_PUBLIC_URL"):
        call_command("subscribe", URL)


@pytest.mark.django_db
def test_replay_moves_the_cursor_and_resumes(capsys, subscribe):
    row, _ = subscribe(URL, cursor=record("a.b").id)
    Subscription.objects.update(paused=row.created, error="it answered 410", tries=3)
    assert "events after 0" in run(capsys, "replay", "ops", "--after", "0")
    row.refresh_from_db()
    assert (row.cursor, row.state(), row.error, row.tries) == (0, "delivering", "", 0)
    with pytest.raises(CommandError, match="the latest"):
        call_command("replay", "ops", "--after", "1000")


@pytest.mark.django_db
def test_resume_goes_on_where_it_was(capsys, subscribe):
    row, _ = subscribe(URL, cursor=record("a.b").id)
    Subscription.objects.update(paused=row.created)
    assert f"events after {row.cursor}" in run(capsys, "resume_subscription", "ops")
    assert Subscription.objects.get().state() == "delivering"


@pytest.mark.django_db
def test_unsubscribe_says_where_it_was(capsys, subscribe):
    subscribe(URL, cursor=record("a.b").id)
    assert "Its last event was" in run(capsys, "unsubscribe", "ops")
    assert not Subscription.objects.exists()


@pytest.mark.django_db
def test_rotation_signs_with_both_secrets_for_a_while(capsys, subscribe, receive):
    receiver = receive()
    _, old = subscribe(receiver.url)
    new = secret_in(run(capsys, "rotate_secret", "ops"))
    assert "delivered" in run(capsys, "test_subscription", "ops")
    assert receiver.verify(old) == receiver.verify(new) == 1
    newest = secret_in(run(capsys, "rotate_secret", "ops", "--overlap", "0s"))
    run(capsys, "test_subscription", "ops")
    receiver.taken[:] = receiver.taken[1:]
    assert receiver.verify(newest) == 1
    with pytest.raises(Exception, match="No matching signature"):
        receiver.verify(new)


@pytest.mark.django_db
def test_a_test_that_fails_says_why_and_changes_nothing(subscribe, receive):
    row, _ = subscribe(receive(answer(500)).url)
    with pytest.raises(CommandError, match="it answered 500"):
        call_command("test_subscription", "ops")
    row.refresh_from_db()
    assert (row.state(), row.cursor) == ("delivering", 0)


@pytest.mark.django_db
@pytest.mark.parametrize("command", ["unsubscribe", "resume_subscription", "rotate_secret", "test_subscription"])
def test_a_name_that_is_not_there(command):
    with pytest.raises(CommandError, match="No subscription is called 'x'"):
        call_command(command, "x")
