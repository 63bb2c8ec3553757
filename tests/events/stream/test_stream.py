"""What /events sends, from a real web process."""

import json

import httpx
import pytest

from events.log import record
from events.models import EventLog
from tests.events.stream.listening import connected, ids, listening, take

pytestmark = pytest.mark.both_servers


def test_a_stream_has_the_headers_of_one(server):
    with connected(server, Origin="https://elsewhere.example") as source:
        headers = source.response.headers
    assert source.response.status_code == 200
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert headers["x-content-type-options"] == "nosniff"
    assert not any(name.startswith("access-control-") for name in headers)


def test_a_stream_opens_with_its_cursor_and_how_soon_to_come_back(server):
    latest = record("a.b").id
    with listening(server) as messages:
        opened = next(messages)
    assert (opened.event, opened.id, opened.retry) == ("stream-open", str(latest), 2000)
    assert opened.json() == {"cursor": latest}


def test_an_event_comes_with_its_type_its_id_and_its_data(server):
    with listening(server) as messages:
        next(messages)
        row = record("deploy.finished", instance="reviewer-default", data={"sha": "abc", "text": "ü\n\u2028"})
        message = next(messages)
    assert (message.event, message.id) == ("deploy.finished", str(row.id))
    assert message.json() == {
        "instance": "reviewer-default",
        "sha": "abc",
        "text": "ü\n\u2028",
        "at": row.payload()["at"],
    }


@pytest.mark.uvicorn_too
def test_an_event_is_written_as_the_contract_shows_it(server):
    data = {"latency_ms": 287, "run": 7, "start_ms": 240, "ready_ms": 47}
    row = record("container.lazy_started", instance="reviewer-default", data={"instance": "reviewer-default"} | data)
    with connected(server, f"?after={row.id - 1}") as source:
        lines = source.response.iter_lines()
        while next(lines):
            pass
        event, id, sent, end = (next(lines) for _ in range(4))
    assert (event, id, end) == ("event: container.lazy_started", f"id: {row.id}", "")
    at = f"{row.at:%Y-%m-%dT%H:%M:%S}.{row.at.microsecond // 1000:03}Z"
    assert sent.startswith('data: {"instance": "reviewer-default", ')  # the rest in the order that the database keeps
    assert json.loads(sent.removeprefix("data: ")) == {"instance": "reviewer-default"} | data | {"at": at}


def test_a_stream_begins_now_where_no_cursor_is_given(server):
    record("before")
    with listening(server) as messages:
        next(messages)
        record("after")
        assert next(messages).event == "after"


def test_from_zero_comes_the_whole_log(serve):
    server = serve()
    made = [record("a.b").id for _ in range(5)]
    with listening(server, "?after=0") as messages:
        opened, *events = take(messages, 6)
    assert (opened.event, opened.id) == ("stream-open", "0")
    assert ids(events) == made


def test_from_zero_of_an_empty_log_is_from_now(serve):
    server = serve()
    with listening(server, "?after=0") as messages:
        assert next(messages).json() == {"cursor": 0}
        row = record("a.b")
        assert next(messages).id == str(row.id)


@pytest.mark.parametrize("form", ["{}", "events:{}"])
@pytest.mark.parametrize("place", ["header", "lastEventId", "after"])
def test_a_cursor_is_taken_from_each_of_its_places(server, place, form):
    first, second = record("a.b"), record("a.b")
    cursor = form.format(first.id)
    query, headers = ("", {"Last-Event-ID": cursor}) if place == "header" else (f"?{place}={cursor}", {})
    with listening(server, query, **headers) as messages:
        assert ids(take(messages, 2)) == [first.id, second.id]


def test_the_header_goes_before_the_address(server):
    first, second = record("a.b"), record("a.b")
    with listening(server, f"?lastEventId=0&after={first.id}", **{"Last-Event-ID": str(second.id)}) as messages:
        assert next(messages).id == str(second.id)
    with listening(server, f"?lastEventId={second.id}&after={first.id}") as messages:
        assert next(messages).id == str(second.id)


@pytest.mark.parametrize(
    "cursor", ["abc", "-1", "1.5", "events:abc", "other:1", "1,2", "9" * 19, "9" * 5000, "٤٢", "%00", "error", "0x1"]
)
def test_a_cursor_that_is_no_number_is_reset_to_now(server, cursor):
    oldest, latest = record("a.b").id, record("a.b").id
    with listening(server, f"?after={cursor}") as messages:
        opened, reset = take(messages, 2)
        row = record("a.b")
        assert next(messages).id == str(row.id)
    assert (opened.event, opened.json()) == ("stream-open", {"cursor": latest})
    assert (reset.event, reset.id) == ("stream-reset", str(latest))
    requested = cursor.replace("%00", "\0")[:100]
    assert reset.json() == {"requested": requested, "oldest": oldest, "latest": latest}


def test_a_cursor_in_the_future_is_reset_to_now(server):
    latest = record("a.b").id
    with listening(server, **{"Last-Event-ID": str(latest + 1)}) as messages:
        opened, reset = take(messages, 2)
    assert opened.json() == {"cursor": latest}
    assert reset.json() == {"requested": latest + 1, "oldest": latest, "latest": latest}


@pytest.mark.parametrize("after", ["0", "1"])
def test_a_cursor_below_what_is_kept_continues_at_the_oldest(serve, after):
    server = serve()
    made = [record("a.b").id for _ in range(6)]
    EventLog.objects.prune(made[2])
    with listening(server, f"?after={after}") as messages:
        opened, reset, *events = take(messages, 5)
    assert opened.json() == {"cursor": made[2]}
    assert reset.json() == {"requested": int(after), "oldest": made[3], "latest": made[5]}
    assert ids(events) == made[3:]


def test_the_cursor_just_below_the_oldest_misses_nothing(serve):
    server = serve()
    made = [record("a.b").id for _ in range(3)]
    EventLog.objects.prune(made[0])
    with listening(server, f"?after={made[0]}") as messages:
        assert ids(take(messages, 3)) == made


def test_filters_may_be_repeated_and_combined(server):
    start = record("a.b").id
    for type in ("a", "b", "c"):
        for instance in ("x", "y", "z"):
            record(type, instance=instance)
    with listening(server, f"?after={start}&type=a&type=b&instance=x&instance=y") as messages:
        next(messages)
        record("c", instance="x")
        record("b", instance="x", data={"live": True})
        seen = [(message.event, json.loads(message.data)["instance"]) for message in take(messages, 5)]
    assert seen == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("b", "x")]


def test_a_type_with_a_wildcard_stands_for_all_that_begin_so(server):
    start = record("a.b").id
    types = ["container.exited", "containers.exited", "container.lazy_started", "work.failed"]
    made = [record(type).id for type in types]
    with listening(server, f"?after={start}&type=container.*") as messages:
        next(messages)
        live = [record(type).id for type in types]
        assert ids(take(messages, 4)) == [made[0], made[2], live[0], live[2]]
    with listening(server, f"?after={start}&type=container.*&type=work.*") as messages:
        next(messages)
        assert ids(take(messages, 3)) == [made[0], made[2], made[3]]


def test_an_empty_filter_is_none(server):
    with listening(server, "?instance=&type=") as messages:
        next(messages)
        record("a.b", instance="x")
        assert next(messages).event == "a.b"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_the_stream_can_only_be_read(server, method):
    answer = httpx.request(method, f"{server.url}/events", headers=server.bearer)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.uvicorn_too
def test_a_stopping_server_says_goodbye(serve):
    server = serve()
    latest = record("a.b").id
    with listening(server) as messages:
        next(messages)
        server.process.terminate()
        (goodbye,) = list(messages)
    assert (goodbye.event, goodbye.json()) == ("stream-end", {"cursor": latest, "reason": "shutdown"})
    assert goodbye.id == str(latest)


def test_too_many_parameters_are_an_error_of_the_client(server):
    answer = httpx.get(f"{server.url}/events?{'type=a&' * 1001}", headers=server.bearer)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
