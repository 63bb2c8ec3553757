"""What reaches a person: by mail through a real SMTP server, and by a generic JSON endpoint."""

import email
import threading
from email.policy import default

import pytest
from aiosmtpd.controller import Controller
from django.utils import timezone

from events.log import record
from lifecycle.clock import Clock
from telling.subscriptions.failures import DeliveryFailed
from telling.subscriptions.messages import of_event, of_test
from telling.subscriptions.persons import PersonSender
from telling.subscriptions.turns import Turn
from tests.servers import free_port, wait_for
from tests.telling.subscriptions.receivers import answer, healthy


class Mailbox:
    """Keeps the mails of a real SMTP server."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(email.message_from_bytes(envelope.content, policy=default))
        return "250 OK"


@pytest.fixture
def mail_server():
    controller = Controller(Mailbox(), hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller
    controller.stop()


def failed_start():
    data = {
        "error": "exited with code 3",
        "cause": "exited",
        "exit_code": 3,
        "log_tail": "first line\n\x1b[31mlast line",
    }
    return record("container.lazy_start_failed", instance="broken-default", data=data)


def send(url, message=None, seconds=60):
    sender = PersonSender(url, seconds)
    sender.send(message or of_test("ops", "ab12", timezone.now()))
    sender.close()


@pytest.mark.django_db
def test_a_failure_arrives_by_mail_with_its_sentence_output_and_link(subscribe, mail_server):
    url = f"mailto://127.0.0.1:{mail_server.port}/?from=dormouse@example.org&to=ops@example.org"
    row, secret = subscribe(url, failures=True, output=True)
    assert secret == ""
    event = failed_start()
    record("container.enabled", instance="broken-default", data={"reason": ""})
    Turn(row, Clock(), lambda: True).run()
    row.refresh_from_db()
    assert row.error == ""
    (mail,) = mail_server.handler.mails
    text = mail.get_body(("plain", "html")).get_content()
    assert mail["Subject"] == "broken-default failed to start: exited with code 3"
    assert "first line" in text
    assert "\\x1b[31mlast line" in text
    assert f"https://dormouse.example.org/agents/activity/{event.id}" in text


@pytest.mark.django_db
def test_output_stays_here_unless_it_is_asked_for(receive):
    receiver = receive()
    send(receiver.url.replace("http", "json"), of_event(failed_start(), output=False))
    ((_, body),) = receiver.requests
    assert b"broken-default failed to start" in body
    assert b"last line" not in body


def test_a_test_arrives_at_a_json_endpoint(receive):
    receiver = receive()
    send(receiver.url.replace("http", "json"))
    assert receiver.events()[0]["title"] == "Test of the subscription ops"
    assert receiver.events()[0]["message"] == "https://dormouse.example.org/agents/"


def test_a_refusal_is_a_failure_without_what_may_be_secret(receive):
    url = receive(answer(500)).url.replace("http://", "json://user:s3cret@") + "/t0pt0ken"
    with pytest.raises(DeliveryFailed, match="500") as failure:
        send(url)
    assert "s3cret" not in str(failure.value)
    assert "t0pt0ken" not in str(failure.value)


@pytest.mark.parametrize("option", ["", "?redirect=yes"])
def test_no_redirect_is_followed(receive, option):
    other = receive()
    with pytest.raises(DeliveryFailed):
        send(receive(answer(307, Location=other.url)).url.replace("http", "json") + option)
    assert not other.requests


def test_one_that_hangs_is_given_up(receive):
    ended = threading.Event()

    def hang(request, number):
        ended.wait(60)
        healthy(request, number)

    receiver = receive(hang)
    with pytest.raises(DeliveryFailed, match=r"did not end within 0\.2 s"):
        send(receiver.url.replace("http", "json") + "?rto=20", seconds=0.2)
    ended.set()
    wait_for(lambda: not any(thread.name == "apprise" for thread in threading.enumerate()))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_mail_server_at_a_private_address_is_not_connected_to(settings, mail_server, host):
    settings.DORMOUSE_WEBHOOK_PRIVATE = False
    with pytest.raises(DeliveryFailed, match="is not public"):
        send(f"mailto://{host}:{mail_server.port}/?from=dormouse@example.org&to=ops@example.org")
    assert not mail_server.handler.mails


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1"])
def test_a_zulip_server_at_a_private_address_is_not_connected_to(settings, host):
    settings.DORMOUSE_WEBHOOK_PRIVATE = False
    with pytest.raises(DeliveryFailed, match="is not public"):
        send(f"zulip://bot@{host}/{'a' * 32}")


def test_a_host_that_does_not_exist_is_a_failure(settings):
    settings.DORMOUSE_WEBHOOK_PRIVATE = False
    with pytest.raises(DeliveryFailed, match="cannot be found"):
        send("mailto://mail.invalid/?from=dormouse@example.org&to=ops@example.org")


def calls_everybody():
    data = {"cause": "exited", "log_tail": "@everyone <!channel> <@U12> @**all** <b>", "error": "exited, @here"}
    return of_event(record("container.lazy_start_failed", instance="broken", data=data), output=True)


@pytest.mark.django_db
def test_output_of_an_agent_calls_nobody_in_a_chat(receive):
    receiver = receive(answer(200))
    send(
        receiver.url.replace("http://", "mmost://").replace("hook", "3ccdd113474722377935511fc85d3dd4"),
        calls_everybody(),
    )
    text = receiver.events()[0]["text"]
    assert "broken failed to start: exited, @\u200bhere" in text
    assert "@\u200beveryone <\u200b!channel> <@\u200bU12> @\u200b**all** <b>" in text


@pytest.mark.django_db
def test_for_a_program_output_stays_as_it_is(receive):
    receiver = receive()
    send(receiver.url.replace("http", "json"), calls_everybody())
    assert "@everyone <!channel> <@U12> @**all** <b>" in receiver.events()[0]["message"]


@pytest.mark.parametrize(
    "url",
    [
        "discord://123456789012345678/AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
        "slack://TokenA1234/TokenB1234/TokenC123456789012345678/#general",
        "tgram://123456789:AAbbccddeeffgghhiijjkkllmmnnooppqqr/12345/",
        f"zulip://bot@organization/{'a' * 32}",
        "rocket://user:password@127.0.0.1/#channel",
    ],
)
def test_every_chat_gets_what_calls_nobody(url):
    assert PersonSender(url)._is_chat


def test_a_failure_does_not_tell_the_topic_of_an_ntfy():
    sender = PersonSender("ntfy://t0pt0pic")
    assert "t0pt0pic" not in sender._hide_secrets("Failed to send to t0pt0pic at https://ntfy.sh")


def test_a_long_text_is_sent_in_parts_and_not_cut():
    sender = PersonSender("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js")
    parts = sender._plugin._apply_overflow("x" * 4500, title="t")
    assert sum(part["body"].count("x") for part in parts) == 4500
    assert len(parts) > 1
