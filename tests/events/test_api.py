"""GET and POST /api/events."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from access.models import Token
from events.log import MAX_DATA_BYTES, record
from events.models import EventLog

pytestmark = pytest.mark.django_db
URL = "/api/events"
NUL = "a\x00b"


def client_of(role="operator", **more):
    text = Token.objects.issue(f"a {role}", role, **more)[1]
    return Client(headers={"Dormouse-Token": text}, raise_request_exception=False)


@pytest.fixture(autouse=True)
def _inline(uses_are_written_at_once): ...


@pytest.fixture
def operator():
    return client_of()


def read(client, **query):
    answer = client.get(URL, query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def post(client, body, content_type="application/json", **more):
    answer = client.post(URL, body if isinstance(body, (str, bytes)) else json.dumps(body), content_type, **more)
    return answer.status_code, answer.json()


def ids(page):
    return [event["id"] for event in page["events"]]


# Reading


def test_an_event_says_what_the_page_says(operator):
    made = record("container.lazy_started", instance="reviewer-default", data={"latency_ms": 287})
    assert read(operator)["events"] == [
        {
            "id": made.id,
            "type": "container.lazy_started",
            "instance": "reviewer-default",
            "at": made.payload()["at"],
            "data": {"latency_ms": 287},
            "sentence": "reviewer-default started in 287 ms",
            "failure": False,
        }
    ]


def test_a_failure_is_marked_and_an_event_may_have_no_instance(operator):
    record("container.lazy_start_failed", instance="a", data={"error": "x"})
    record("deploy.finished")
    assert [(e["failure"], e["instance"]) for e in read(operator)["events"]] == [(True, "a"), (False, None)]


def test_a_reader_that_follows_next_misses_nothing(operator):
    made = [record("a.b").id for _ in range(7)]
    seen: list[int] = []
    cursor: dict[str, Any] = {}
    while page := read(operator, limit=3, **cursor):
        if not page["events"]:
            break
        seen, cursor = seen + ids(page), {"after": page["next"]}
        assert page["reset"] is None
    assert seen == made
    assert page["next"] == made[-1]


def test_a_filter_moves_next_to_the_end_of_the_log(operator):
    wanted, other = record("a.b", instance="mine"), record("a.c", instance="other")
    page = read(operator, instance="mine", type=["a.b", "a.d"])
    assert (ids(page), page["next"]) == ([wanted.id], other.id)
    assert ids(read(operator, instance=["mine", "other"])) == [wanted.id, other.id]


def test_a_type_with_a_wildcard_stands_for_all_that_begin_so(operator):
    types = ["container.exited", "containers.exited", "work.failed", "container.lazy_started", "container"]
    made = [record(type).id for type in types]
    assert ids(read(operator, type="container.*")) == [made[0], made[3]]
    assert ids(read(operator, type=["container.*", "work.failed"])) == [made[0], made[2], made[3]]
    assert ids(read(operator, type="nothing.*")) == []


def test_an_empty_log_has_a_cursor(operator):
    page = read(operator)
    assert (page["events"], page["reset"]) == ([], None)
    assert page["next"] == EventLog.objects.bounds()[1]


def test_a_cursor_of_the_future_is_reset_to_the_end(operator):
    latest = record("a.b").id
    page = read(operator, after=latest + 5)
    assert (page["events"], page["next"]) == ([], latest)
    assert page["reset"] == {"requested": latest + 5, "oldest": latest, "latest": latest}


@pytest.mark.django_db(transaction=True)
def test_a_pruned_cursor_is_reset_and_without_one_the_log_begins_at_the_oldest(operator):
    made = [record("a.b").id for _ in range(4)]
    EventLog.objects.prune(made[1])
    for query, requested in (({"after": made[0]}, made[0]), ({"after": 0}, 0)):
        page = read(operator, **query)
        assert ids(page) == made[2:]
        assert page["reset"] == {"requested": requested, "oldest": made[2], "latest": made[3]}
    assert (ids(read(operator)), read(operator)["reset"]) == (made[2:], None)
    assert read(operator, after=made[1])["reset"] is None


@pytest.mark.django_db(transaction=True)
def test_a_log_that_was_pruned_to_its_end_has_a_cursor(operator):
    latest = record("a.b").id
    EventLog.objects.prune(latest)
    assert read(operator) == {"events": [], "next": latest, "reset": None}


@pytest.mark.parametrize(
    "query",
    ["after=", "after=x", "after=-1", "after=1.5", "after=" + "9" * 19, "after=%D9%A3", "limit=0", "limit=1001"],
)
def test_what_is_no_cursor_or_limit_is_400(operator, query):
    answer = operator.get(f"{URL}?{query}")
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")


def test_a_filter_may_have_any_character(operator):
    assert ids(read(operator, instance=NUL, type="\ud800".encode("utf-8", "surrogatepass"))) == []


def test_a_limited_token_reads_and_records_for_its_instances_alone():
    client = client_of(instances=["mine"])
    for instance in ("other", "", "mine"):
        record("a.b", instance=instance)
    assert [event["instance"] for event in read(client)["events"]] == ["mine"]
    assert client.get(URL, {"instance": "other"}).status_code == 403
    assert post(client, {"type": "a.b", "instance": "other"})[0] == 403
    assert post(client, {"type": "a.b"})[0] == 403
    assert post(client, {"type": "a.b", "instance": "mine"})[0] == 201


# Recording


def test_an_event_of_ones_own_is_in_the_log_with_its_author(operator):
    sent = {"type": "deploy.finished", "instance": "reviewer-default", "data": {"version": "1.4.2"}}
    status, answer = post(operator, sent)
    assert status == 201
    assert answer == read(operator)["events"][-1]
    assert answer["data"] == {"version": "1.4.2", "by": "a operator", "by_kind": "token"}


def test_by_and_at_are_the_servers(operator):
    _, answer = post(operator, {"type": "a.b", "data": {"by": "root", "by_kind": "user", "at": "1970"}})
    assert answer["data"] == {"by": "a operator", "by_kind": "token"}
    assert not answer["at"].startswith("1970")


@pytest.mark.parametrize(
    "type", ["container.lazy_started", "work.failed", "dormouse.log_restored", "stream-open", "error"]
)
def test_what_dormouse_alone_tells_is_422(operator, type):
    assert post(operator, {"type": type})[0] == 422
    assert not EventLog.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        [], "x", 1, None, {}, {"type": 1}, {"type": ""}, {"type": "a\n"}, {"type": "x" * 101},
        {"type": "a.b", "instance": "x" * 256}, {"type": "a.b", "instance": None}, {"type": "a.b", "data": []},
        {"type": "a.b", "at": "now"}, {"type": "a.b", "data": {"x": float("nan")}},
        {"type": "a.b", "data": {"x": "y" * MAX_DATA_BYTES}},
    ],
)  # fmt: skip
def test_what_is_no_event_is_422(operator, body):
    status, problem = post(operator, json.dumps(body))
    assert (status, problem["status"]) == (422, 422)
    assert not EventLog.objects.exists()


@pytest.mark.parametrize("body", [" ", "{", b"\xff", "[" * 100_000, "1" * 5_000, '{"type": "a.b"} x'])
def test_what_is_no_json_is_400(operator, body):
    assert post(operator, body)[0] == 400


@pytest.mark.parametrize("text", [NUL, "\ud800"])
def test_what_a_database_cannot_keep_is_replaced(operator, text):
    status, answer = post(operator, {"type": "a.b", "instance": text, "data": {text: text}})
    assert status == 201
    assert "\N{REPLACEMENT CHARACTER}" in answer["instance"]


def test_another_kind_of_body_is_415(operator):
    assert post(operator, "type=a.b", "application/x-www-form-urlencoded")[0] == 415


def test_a_large_event_is_413(operator):
    assert post(operator, {"type": "a.b", "data": {"x": "y" * 300_000}})[0] == 413


def test_a_session_records_with_the_csrf_header_alone():
    user = User.objects.create_user("alice")
    user.groups.add(Group.objects.get(name="Operators"))
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    client.cookies["csrftoken"] = "t" * 32
    assert post(client, {"type": "a.b"})[0] == 403
    status, answer = post(client, {"type": "a.b"}, headers={"X-CSRFToken": "t" * 32})
    assert (status, answer["data"]) == (201, {"by": "alice", "by_kind": "user"})


@pytest.mark.parametrize("role", ["viewer", "dispatcher"])
def test_others_may_not_record(role):
    assert post(client_of(role), {"type": "a.b"})[0] == 403
