"""The API's orders: wake, sleep, awake-until, disabled."""

import asyncio
import threading
from json import dumps

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError
from django.test import AsyncClient, Client

from access.models import Token
from lifecycle import assembly
from lifecycle.exceptions import EngineUnreachable
from lifecycle.models import Instance
from lifecycle.state_machine import State
from tests.lifecycle.conftest import NAME, leased, row, use, wait_for_orders
from tests.lifecycle.fake_engine import raising
from tests.servers import wait_for

URL = f"/api/instances/{NAME}"


@pytest.fixture
def site(transactional_db, lifecycle, engine, clock, monkeypatch):
    """The web process's lifecycle, on the fake engine."""
    monkeypatch.setattr(assembly, "_lifecycles", {"web": lifecycle})
    monkeypatch.setattr(assembly, "clock", clock)
    engine.add(NAME, port="9001", idle_timeout="1m")
    yield lifecycle
    wait_for_orders()


@pytest.fixture
def ask(site):
    """Return `ask("PUT", "/disabled", role="operator", json={...})`, which returns the answer's status and JSON."""
    tokens: dict[str, str] = {}

    def send(method, path, *, role="operator", json=None, headers=None, **query):
        if role not in tokens:
            tokens[role] = Token.objects.issue(role, role)[1]
        target = f"/{path}" if path.startswith("api/") else URL + path
        answer = Client().generic(
            method,
            target,
            data=json if isinstance(json, str | bytes) else dumps(json or {}),
            content_type="application/json",
            query_params=query,
            headers={"Authorization": f"Bearer {tokens[role]}"} | (headers or {}),
        )
        return answer.status_code, answer.json()

    return send


def test_wake_answers_when_it_is_ready(ask, engine, clock, events):
    engine.after["start"] = [lambda: clock.go(0.25)]
    assert ask("POST", "/wake", headers={"Dormouse-For": "PR 812"}) == (200, {"state": "ready", "latency_ms": 250})
    assert ask("POST", "/wake") == (200, {"state": "ready", "latency_ms": None})
    known = {"trigger": "wake", "by": "operator", "by_kind": "token", "for": "PR 812"}
    assert events.only("lazy_started").items() >= known.items()


def test_sleep_answers_when_it_is_asleep(ask, site, events):
    use(site)
    assert ask("POST", "/sleep") == (200, {"state": "asleep"})
    assert ask("POST", "/sleep") == (200, {"state": "asleep"})
    assert events.types == ["lazy_started", "lazy_stopped"]


def test_sleep_is_409_while_work_is_in_flight_unless_it_is_forced(ask, site):
    with leased(site):
        status, problem = ask("POST", "/sleep")
        assert (status, problem["work_in_flight"]) == (409, 1)
        assert ask("POST", "/sleep", force="true") == (200, {"state": "asleep"})


def test_it_is_kept_awake_for_a_time_and_until_a_time(ask, site):
    use(site)
    assert ask("PUT", "/awake-until", json={"for": "1h"}) == (200, {"until": "2026-11-23T19:55:30.000Z"})
    longer = {"until": "2026-11-23T22:00:00+01:00"}
    assert ask("PUT", "/awake-until", json=longer) == (200, {"until": "2026-11-23T21:00:00.000Z"})
    _, shown = ask("GET", "")
    assert (shown["awake_until"], shown["awake_by"]) == ("2026-11-23T21:00:00Z", "operator")
    assert shown["sleeps_at"] == shown["awake_until"]
    assert ask("DELETE", "/awake-until") == (200, {"until": None})
    assert ask("GET", "")[1]["sleeps_at"] == "2026-11-23T18:56:30Z"


def test_one_that_is_asleep_cannot_be_kept_awake(ask):
    status, problem = ask("PUT", "/awake-until", json={"for": "1h"})
    assert (status, problem["state"]) == (409, "asleep")


def test_what_another_decided_is_ended_by_an_operator_alone(ask, site):
    use(site)
    ask("PUT", "/awake-until", json={"for": "1h"})
    assert ask("DELETE", "/awake-until", role="dispatcher")[0] == 403
    assert row().awake_until
    ask("DELETE", "/awake-until")
    ask("PUT", "/awake-until", role="dispatcher", json={"for": "1h"})
    assert ask("DELETE", "/awake-until", role="dispatcher")[0] == 200


def test_one_that_is_disabled_is_503_until_it_is_enabled(ask, site):
    status, answer = ask("PUT", "/disabled", json={"reason": "model key rotated"})
    decision = answer["disabled"]
    assert (status, decision["reason"], decision["by"]) == (200, "model key rotated", "operator")
    assert ask("GET", "")[1]["disabled"] == decision
    status, problem = ask("POST", "/wake")
    assert (status, problem["detail"]) == (503, f"{NAME} is disabled by operator: model key rotated")
    assert ask("DELETE", "/disabled") == (200, {"disabled": None})
    assert ask("POST", "/wake")[0] == 200


def test_a_disabled_one_with_work_shows_no_time_and_without_work_is_due(ask, site):
    with leased(site):
        ask("PUT", "/disabled")
        assert ask("GET", "")[1]["sleeps_at"] is None
    assert ask("GET", "")[1]["sleeps_at"] == "2026-11-23T18:55:30Z"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/awake-until", {"for": "soon"}, 422),
        ("/awake-until", {"for": "25h"}, 422),
        ("/awake-until", {"for": 3600}, 422),
        ("/awake-until", {"until": "2026-11-23T18:00:00Z"}, 422),
        ("/awake-until", {"for": "1h", "until": "2026-11-23T19:00:00Z"}, 422),
        ("/awake-until", {"for": "1h", "by": "alice"}, 422),
        ("/awake-until", {}, 422),
        ("/awake-until", "[]", 422),
        ("/awake-until", "{", 400),
        ("/disabled", {"reason": None}, 422),
        ("/disabled", {"reason": "x" * 201}, 422),
        ("/disabled", b"\xff", 400),
    ],
)
def test_a_body_that_says_what_it_must_not_is_refused(ask, site, events, path, body, status):
    use(site)
    assert ask("PUT", path, json=body)[0] == status
    assert events.types == ["lazy_started"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/sleep"), ("PUT", "/disabled")])
@pytest.mark.parametrize("force", ["", "1", "yes", "TRUE"])
def test_force_is_true_or_false(ask, method, path, force):
    assert ask(method, path, force=force)[0] == 400


@pytest.mark.parametrize("name", ["nobody", "%00", "x" * 300])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "wake"), ("POST", "sleep"), ("PUT", "disabled"), ("DELETE", "awake-until")]
)
def test_an_unknown_instance_is_404(ask, name, method, path):
    assert ask(method, f"api/instances/{name}/{path}")[0] == 404


def test_a_token_for_another_instance_is_403(site, engine):
    token = Token.objects.issue("other", "operator", instances=["designer-default"])[1]
    answer = Client().post(f"{URL}/sleep", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403
    assert engine.calls == []


def test_a_session_needs_the_csrf_header(site):
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("alice"))
    assert client.post(f"{URL}/sleep").status_code == 403
    client.cookies["csrftoken"] = "t" * 32
    assert client.post(f"{URL}/sleep", headers={"X-CSRFToken": "t" * 32}).status_code == 200


def test_without_a_database_it_is_503(ask, site, monkeypatch):
    def fail(*arguments):
        raise DatabaseError("locked")

    monkeypatch.setattr(type(site.control), "enable", fail)
    assert ask("DELETE", "/disabled")[0] == 503


def test_a_stop_whose_answer_was_lost_is_settled_by_this_process(ask, site, engine, events):
    """It is alive, so no other process would take the claim over."""
    use(site)
    engine.after["stop"] = [raising(EngineUnreachable("connection reset"))]
    assert ask("POST", "/sleep")[0] == 503
    wait_for(lambda: row().state == State.ASLEEP)
    assert events.types == ["lazy_started", "lazy_stopped"]


def test_a_caller_that_hangs_up_cancels_no_order(site, engine, events):
    token = Token.objects.issue("operator", "operator")[1]
    may_go_on, has_begun = threading.Event(), threading.Event()
    engine.before["start"] = [lambda: (has_begun.set(), may_go_on.wait(60))]

    async def hang_up():
        task = asyncio.create_task(AsyncClient().post(f"{URL}/wake", headers={"Authorization": f"Bearer {token}"}))
        await asyncio.to_thread(has_begun.wait, 60)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(hang_up())
    may_go_on.set()
    wait_for(lambda: Instance.objects.get(pk=NAME).state == State.READY)
    wait_for(lambda: events.types == ["lazy_started"])
