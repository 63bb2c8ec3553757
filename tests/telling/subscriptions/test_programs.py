"""What reaches a program, and what counts as a failure."""

import json
import time

import pytest
from django.utils import timezone

from telling.subscriptions.failures import DeliveryFailed
from telling.subscriptions.messages import of_test
from telling.subscriptions.programs import MAX_ANSWER_BYTES, ProgramSender
from telling.subscriptions.signing import make_secret
from tests.telling.subscriptions.receivers import answer


@pytest.fixture
def send():
    """Sends one message to a URL: `send(url)`."""

    def send(url, secrets=None, seconds=60):
        sender = ProgramSender(url, secrets or [make_secret()], seconds)
        try:
            sender.send(of_test("ops", "ab12", timezone.now()))
        finally:
            sender.close()

    return send


def fail(send, *arguments, **options):
    with pytest.raises(DeliveryFailed) as failure:
        send(*arguments, **options)
    return failure.value


def test_a_delivery_is_a_signed_cloud_event(receive, send):
    receiver, secret = receive(), make_secret()
    send(receiver.url, [secret])
    assert receiver.verify(secret) == 1
    headers, body = receiver.requests[0]
    event = json.loads(body)
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["webhook-id"] == event["id"] == "0-ab12"
    assert event["specversion"] == "1.0"
    assert event["source"] == "https://dormouse.example.org"
    assert event["type"] == "dormouse.test"
    assert event["time"] == event["data"]["at"]
    assert "subject" not in event


def test_a_wrong_secret_does_not_verify(receive, send):
    receiver = receive()
    send(receiver.url)
    with pytest.raises(Exception, match="No matching signature"):
        receiver.verify(make_secret())


def test_during_a_rotation_both_secrets_verify(receive, send):
    receiver, secrets = receive(), [make_secret(), make_secret()]
    send(receiver.url, secrets)
    assert [receiver.verify(secret) for secret in secrets] == [1, 1]


def test_credentials_of_the_url_become_basic_authentication(receive, send):
    receiver = receive()
    send(receiver.url.replace("//", "//user:pass@"))
    assert receiver.requests[0][0]["authorization"] == "Basic dXNlcjpwYXNz"


@pytest.mark.parametrize("status", [199 + 101, 400, 404, 413, 500, 503])
def test_another_status_than_2xx_is_a_failure(receive, send, status):
    error = fail(send, receive(answer(status)).url)
    assert f"it answered {status}" in str(error)
    assert not error.is_final


def test_410_is_final(receive, send):
    assert fail(send, receive(answer(410)).url).is_final


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(receive, send, status):
    other = receive()
    assert "no redirect is followed" in str(fail(send, receive(answer(status, Location=other.url)).url))
    assert not other.requests


@pytest.mark.parametrize(
    ("header", "seconds"), [("120", 120), ("-1", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0), ("9" * 99, 0)]
)
def test_the_receiver_may_ask_for_a_pause(receive, send, header, seconds):
    assert fail(send, receive(answer(503, Retry_After=header)).url).retry_after == seconds


def test_an_answer_that_drips_is_cut_off_as_a_whole(receive, send):
    def drip(request, number):
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        while True:
            request.wfile.write(b".")
            request.wfile.flush()
            time.sleep(0.02)

    assert str(fail(send, receive(drip).url, seconds=0.3)) == "no complete answer within 0.3 s"


def test_of_an_endless_answer_only_the_beginning_is_read(receive, send):
    def flood(request, number):
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        while True:
            request.wfile.write(b"1000\r\n" + b"." * 0x1000 + b"\r\n")

    receiver = receive(flood)
    send(receiver.url)
    assert len(receiver.requests) == 1
    assert MAX_ANSWER_BYTES < 1_000_000


def test_a_port_with_nothing_behind_it_is_a_failure(receive, send):
    receiver = receive()
    receiver.stop()
    assert str(fail(send, receiver.url)) == "it cannot be connected to: Connection refused"


def test_a_host_that_does_not_exist_is_a_failure(send):
    assert "it cannot be connected to: " in str(fail(send, "http://receiver.invalid/"))


def test_an_answer_that_is_no_http_is_a_failure(receive, send):
    error = fail(send, receive(lambda request, number: request.wfile.write(b"hello\r\n\r\n")).url)
    assert "it gave no answer" in str(error)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_a_private_address_is_not_connected_to(receive, send, settings, host):
    settings.DORMOUSE_WEBHOOK_PRIVATE = False
    receiver = receive()
    error = fail(send, receiver.url.replace("127.0.0.1", host, 1))
    assert "is not public, and DORMOUSE_WEBHOOK_PRIVATE is not true" in str(error)
    assert not receiver.requests


def test_the_address_connected_to_is_judged_and_not_one_resolved_before(receive, send, settings, monkeypatch):
    """A name server that first says a public address, and then this machine's."""
    settings.DORMOUSE_WEBHOOK_PRIVATE = False
    receiver = receive()
    port = receiver.server_port
    found = [(2, 1, 6, "", ("127.0.0.1", port))]

    async def resolve(loop, *arguments, **options):
        return found

    monkeypatch.setattr("asyncio.BaseEventLoop.getaddrinfo", resolve)
    assert "127.0.0.1 is not public" in str(fail(send, f"http://rebinding.example.org:{port}/"))
    settings.DORMOUSE_WEBHOOK_PRIVATE = True
    send(f"http://rebinding.example.org:{port}/")
    assert len(receiver.requests) == 1


def test_no_proxy_of_the_environment_is_used(receive, send, monkeypatch):
    receiver, proxy = receive(), receive()
    monkeypatch.setenv("http_proxy", proxy.url)
    send(receiver.url)
    assert len(receiver.requests) == 1
    assert not proxy.requests


def test_an_error_tells_nothing_of_the_url_but_its_host(receive, send):
    receiver = receive(answer(500))
    assert "s3cret" not in str(fail(send, receiver.url + "/s3cret?token=s3cret"))
    receiver.stop()
    assert "s3cret" not in str(fail(send, receiver.url.replace("//", "//s3cret:s3cret@") + "/s3cret?token=s3cret"))
