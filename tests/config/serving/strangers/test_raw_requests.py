"""A hundred raw requests of strangers: smuggling, odd targets, hosts and upgrades. None gets more than one answer."""

import re
import socket

import pytest

from tests.config.serving.strangers import raw_requests
from tests.config.serving.strangers.raw_requests import CASES, CLOSED, HIDDEN
from tests.servers import DEADLINE_SECONDS

pytestmark = pytest.mark.both_servers

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
#: What a file that no stranger may read has in it.
SECRETS = [b"root:x:0:0", b"SQLite format 3", b"ImproperlyConfigured"]


def send(server, sent):
    """Return everything that is answered until the server closes; nothing if it resets the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        except OSError:  # the server cuts a caller that goes on sending
            pass
    return answer


def statuses(answer):
    return [int(status) for status in STATUS.findall(answer) if status != b"100"]


@pytest.mark.uvicorn_too
def test_each_gets_one_answer_at_most_and_no_file(serve):
    server, wrong = serve(), []
    for case in CASES:
        answer = send(server, case.sent)
        found = statuses(answer) or [CLOSED]
        if len(found) > 1 or found[0] not in case.statuses or any(secret in answer for secret in SECRETS):
            wrong.append(f"{case.name}: {found}, not one of {sorted(case.statuses)}")
    assert wrong == []
    assert "Traceback" not in server.log.read_text()
    assert send(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_the_names_of_the_cases_differ():
    assert len({case.name for case in CASES}) == len(CASES) > 90


@pytest.mark.parametrize("count", [2, 50])
def test_requests_in_a_row_are_answered_in_their_order(serve, count):
    """Pipelining: each answer belongs to its request, also if one before it takes longer."""
    server = serve()
    kinds = [(b"GET", b"/accounts/login/", 200), (b"PATCH", b"/healthz", 405), (b"GET", b"/no/such/page", 404)]
    chosen = [kinds[number % 3] for number in range(count)]
    sent = [b"%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % (method, path) for method, path, _ in chosen]
    assert statuses(send(server, b"".join(sent))) == [status for *_, status in chosen]


@pytest.mark.uvicorn_too
def test_nothing_is_read_behind_a_refused_body(serve):
    """The rest of a body that was refused may look like requests."""
    server = serve()
    head = b"POST /accounts/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 400000\r\n\r\n"
    assert statuses(send(server, head + HIDDEN * 5000)) == [413]


def test_a_trace_shows_no_header(serve):
    (trace,) = [case for case in raw_requests.LINES if case.name == "TRACE"]
    assert b"s3cr3t" not in send(serve(), trace.sent)
