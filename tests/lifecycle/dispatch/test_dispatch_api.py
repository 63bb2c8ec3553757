"""POST /api/instances/<name>/dispatch, and GET of what is known."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client

from access.middleware import AsgiAccess
from lifecycle import assembly
from lifecycle.dispatch.gateway import Gateway
from lifecycle.exceptions import AgentBrokeOff, Cause, EngineUnreachable, StartRejected
from lifecycle.models import EngineStatus, Instance, Lease
from lifecycle.state_machine import State
from tests.lifecycle.conftest import NAME, make_row
from tests.lifecycle.dispatch.agent import answer as answer_of
from tests.lifecycle.dispatch.agent import until_it_is_over
from tests.lifecycle.dispatch.caller import CSRF, TOKEN, URL, ask, call, post, scope_of
from tests.lifecycle.fake_engine import raising
from tests.servers import wait_for


def get(url, headers=TOKEN):
    return Client().get(url, headers=headers)


# Who may


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Bearer", "Basic the-tests-token", ""])
def test_a_wrong_token_is_401(worker_agent, header):
    answer = post(headers={"Authorization": header})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.problem["status"] == 401


def test_an_empty_setting_lets_no_program_in(worker_agent, settings):
    settings.DORMOUSE_API_TOKEN = ""
    assert post(headers={"Authorization": "Bearer "}).status_code == 401


def test_without_login_or_token_it_is_401(worker_agent):
    assert post(headers={}).status_code == 401


@pytest.mark.parametrize("name", [NAME, "nobody"])
def test_without_the_permission_it_is_403_whether_it_exists_or_not(worker_agent, name, engine):
    answer = signed_in(User.objects.create_user("anne"), url=f"/api/instances/{name}/dispatch")
    assert answer.status_code == 403
    assert answer.problem["detail"] == "This needs the permission lifecycle.dispatch_instance."
    assert engine.calls == []


def test_a_wrong_token_is_refused_in_spite_of_a_session(worker_agent, dispatcher_user):
    answer = signed_in(dispatcher_user, headers={"Authorization": "Bearer wrong"}, with_csrf=True)
    assert answer.status_code == 401


@pytest.fixture
def dispatcher_user(worker_agent):
    user = User.objects.create_user("anne")
    user.user_permissions.add(Permission.objects.get(codename="dispatch_instance"))
    return user


def signed_in(user, *, headers=None, with_csrf=False, **more):
    """A POST of a person, as a browser sends it."""
    headers = (headers or {}) | ({"X-CSRFToken": CSRF} if with_csrf else {})
    return post(user=user, headers=headers, **more)


MULTIPART = "multipart/form-data; boundary=x"
FORM = b'--x\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n' + CSRF.encode() + b"\r\n--x--\r\n"


@pytest.mark.parametrize("content_type", ["text/plain", MULTIPART, "application/x-www-form-urlencoded"])
def test_a_sessions_post_without_the_csrf_header_is_403(dispatcher_user, worker_agent, content_type):
    answer = signed_in(dispatcher_user, body=FORM, content_type=content_type)
    assert answer.status_code == 403
    assert "X-CSRFToken" in answer.problem["detail"]
    assert worker_agent.requests == []


@pytest.mark.parametrize("content_type", ["text/plain", MULTIPART, "application/x-www-form-urlencoded"])
def test_a_sessions_post_with_the_csrf_header_arrives_whole(dispatcher_user, worker_agent, content_type):
    assert signed_in(dispatcher_user, body=FORM, content_type=content_type, with_csrf=True).content == b"done"
    (request,) = worker_agent.requests
    assert (request.body, request.headers["content-type"]) == (FORM, content_type)


def test_a_program_needs_no_csrf_token(worker_agent):
    assert post().status_code == 200


def test_a_foreign_host_is_400(worker_agent):
    assert post(headers=TOKEN | {"Host": "elsewhere.example"}).status_code == 400


def test_it_is_for_post_alone(worker_agent):
    answer = ask("GET", URL)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


# What is answered


def test_the_agents_answer_is_the_answer(worker_agent):
    worker_agent.answer = lambda request: answer_of(
        201, b'{"ok":true}', Content_Type="application/json", Retry_After="3"
    )
    answer = post()
    assert (answer.status_code, answer.content) == (201, b'{"ok":true}')
    assert (answer.headers["Content-Type"], answer.headers["Retry-After"]) == ("application/json", "3")


def test_an_answer_can_do_nothing_on_our_origin(worker_agent):
    worker_agent.answer = lambda request: answer_of(200, b"<script>", Set_Cookie="sessionid=x")
    answer = post()
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("target", ["mailto:x", "::", "/elsewhere"])
def test_an_answer_that_leads_elsewhere_is_an_answer(worker_agent, sleeper, target):
    worker_agent.answer = lambda request: answer_of(302, b"see there", Location=target)
    answer = post()
    assert (answer.status_code, answer.content) == (302, b"see there")


def test_body_and_type_and_path_reach_the_agent(worker_agent, sleeper):
    sleeper.labels["dormouse.dispatch-path"] = "/work?x=1"
    post(body=b"\x00\xff" * 100_000, content_type="application/x-thing")
    (request,) = worker_agent.requests
    assert (request.method, request.target) == ("POST", "/work?x=1")
    assert (request.headers["content-type"], request.body) == ("application/x-thing", b"\x00\xff" * 100_000)


def test_our_token_and_cookies_do_not_reach_the_agent(worker_agent):
    post(headers=TOKEN | {"Cookie": "sessionid=secret"})
    (request,) = worker_agent.requests
    assert not {"authorization", "cookie"} & set(request.headers)


def test_a_body_above_djangos_limit_arrives(worker_agent, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    post(body=b"x" * 1000)
    assert len(worker_agent.requests[0].body) == 1000


def test_only_a_dispatch_that_woke_it_says_how_long_that_took(worker_agent):
    assert post().headers["Server-Timing"].startswith("wake;dur=")
    assert "Server-Timing" not in post().headers


def test_an_unknown_instance_is_404(worker_agent):
    assert post("/api/instances/nobody/dispatch").status_code == 404


def test_labels_in_error_are_409(worker_agent, sleeper):
    sleeper.labels["dormouse.idle-timeout"] = "soon"
    answer = post()
    assert answer.status_code == 409
    assert answer.problem["label"] == "dormouse.idle-timeout"
    assert answer.problem["detail"].startswith("reviewer-default: dormouse.idle-timeout='soon' is no duration")


def test_an_instance_without_a_port_is_409(worker_agent, engine):
    engine.add("portless", ready="running")
    assert post("/api/instances/portless/dispatch").problem["label"] == "dormouse.port"


def test_a_failed_start_is_503_with_the_error_of_the_event(worker_agent, engine, events):
    engine.before["start"] = [raising(StartRejected("port 80 is taken", Cause.PORT_CONFLICT, 128))]
    answer = post()
    assert answer.status_code == 503
    failed = events.only("lazy_start_failed")
    for fact in ("cause", "error", "exit_code"):
        assert answer.problem[fact] == failed[fact]
    assert answer.problem["detail"] == "reviewer-default failed to start: port 80 is taken"


def test_a_known_container_that_is_gone_is_503_missing(worker_agent, engine, clock):
    make_row(clock)
    engine.boxes.clear()
    answer = post()
    assert (answer.status_code, answer.problem["cause"]) == (503, "missing")


def test_without_an_engine_it_is_503(worker_agent, engine):
    engine.before["inspect"] = [raising(EngineUnreachable("no engine answers"))]
    answer = post()
    assert (answer.status_code, answer.problem["cause"]) == (503, "engine_unreachable")
    assert answer.problem["error"] == "no engine answers"


def test_an_agent_that_does_not_answer_is_502(worker_agent):
    worker_agent.close()
    answer = post()
    assert (answer.status_code, answer.problem["detail"]) == (502, f"{NAME} broke off: connection refused")
    assert worker_agent.failure() == {"status": 502, "error": "broke off after N s: connection refused"}


def test_an_agent_that_does_not_begin_in_time_is_504(worker_agent, sleeper):
    sleeper.labels["dormouse.dispatch-timeout"] = "50ms"
    worker_agent.answer = until_it_is_over
    answer = post()
    assert (answer.status_code, answer.problem["detail"]) == (504, f"{NAME} did not begin its answer within 0.05 s")
    assert worker_agent.failure() == {"status": 504, "error": "had not begun its answer after N s"}


def test_an_answer_of_5xx_is_told_as_failed_work(worker_agent):
    worker_agent.answer = lambda request: answer_of(507)
    assert post().status_code == 507
    assert worker_agent.failure() == {"status": 507, "error": "answered 507 after N s"}


def test_an_answer_that_breaks_off_is_told_with_the_status_that_was_sent(worker_agent):
    worker_agent.answer = lambda request: answer_of(201, b"begun", Content_Length="6", Connection="close")
    with pytest.raises(AgentBrokeOff):
        post()
    assert worker_agent.failure() == {
        "status": 201,
        "error": "broke off after N s: its answer is incomplete or cannot be read",
    }


@pytest.mark.parametrize("status", [200, 302, 404, 499])
def test_no_other_answer_is_failed_work(worker_agent, events, status):
    worker_agent.answer = lambda request: answer_of(status)
    post()
    assert not assembly._dispatchers[0]._wakes.work_failures._unwritten
    assert events.types == ["lazy_started"]


def test_a_caller_that_hangs_up_is_no_failure(worker_agent, events):
    worker_agent.answer = until_it_is_over

    async def hang_up():
        task = asyncio.create_task(call(AsgiAccess(Gateway()), scope_of("POST", URL, TOKEN, b"work"), b"work"))
        await asyncio.to_thread(wait_for, lambda: worker_agent.requests)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await assembly._dispatchers[0].close_connections()

    asyncio.run(hang_up())
    assert not assembly._dispatchers[0]._wakes.work_failures._unwritten
    assert events.types == ["lazy_started"]


# Who ordered it


def test_the_start_and_the_lease_tell_who_dispatched_and_what_for(worker_agent, events):
    leases = []

    def answer(request):
        leases.extend(get(f"/api/instances/{NAME}").json()["leases"])
        connection.close()
        return answer_of(200)

    worker_agent.answer = answer
    post(headers=TOKEN | {"Dormouse-For": "PR 812"})
    known = {"by": "environment", "by_kind": "token", "for": "PR 812"}
    assert events.only("lazy_started").items() >= (known | {"trigger": "dispatch"}).items()
    (lease,) = leases
    expected = known | {"for": ["PR 812"], "works": 1}
    assert {key: lease[key] for key in expected} == expected


def test_work_that_failed_tells_who_dispatched_it_and_what_for(worker_agent, events):
    worker_agent.answer = lambda request: answer_of(500)
    post(headers=TOKEN | {"Dormouse-For": "PR 812"})
    worker_agent.failure()
    assert events[-1][1].items() >= {"by": "environment", "by_kind": "token", "for": "PR 812"}.items()


def test_what_is_not_known_is_left_out(dispatcher_user, events):
    signed_in(dispatcher_user, with_csrf=True)
    started = events.only("lazy_started")
    assert (started["by"], started["by_kind"], "for" in started) == ("anne", "user", False)


@pytest.mark.parametrize("status", [200, 500])
def test_the_lease_ends_with_the_answer(worker_agent, status):
    leased = []

    def answer(request):
        leased.append(Lease.objects.count())
        connection.close()
        return answer_of(status)

    worker_agent.answer = answer
    post()
    assert leased == [1]
    wait_for(lambda: not Lease.objects.exists())


def test_the_lease_ends_with_an_error(worker_agent):
    worker_agent.answer = lambda request: None
    assert post().status_code == 502
    wait_for(lambda: not Lease.objects.exists())


# Looking


def test_all_instances_are_shown_with_the_last_look_at_the_engine(db, clock):
    make_row(clock)
    EngineStatus.objects.create(engine="fake", asked=clock.now(), error="no engine answers")
    found = get("/api/instances").json()
    assert [one["name"] for one in found["instances"]] == [NAME]
    assert found["engines"][0]["error"] == "no engine answers"


def test_one_instance_is_shown_with_what_is_known_of_it(db, clock):
    failure = {"run": 6, "error": "exited", "cause": "exited"}
    values = {"run": 7, "last_used": clock.now(), "idle_timeout": timedelta(minutes=1), "failure": failure}
    make_row(clock, State.READY, label_warning="hm", **values)
    assert get(f"/api/instances/{NAME}").json() == {
        "name": NAME,
        "state": "ready",
        "since": "2026-11-23T18:55:30Z",
        "run": 7,
        "paused": False,
        "present": True,
        "leases": [],
        "needs": [],
        "needed_by": [],
        "sleeps_at": "2026-11-23T18:56:30Z",
        "awake_until": None,
        "awake_by": None,
        "disabled": None,
        "last_failure": failure,
        "stop_failure": None,
        "last_exit": None,
        "work_failure": None,
        "label_error": None,
        "label_warning": "hm",
    }


def test_one_at_work_shows_its_leases_and_does_not_sleep_by_time(db, clock):
    values = {"last_used": clock.now(), "idle_timeout": timedelta(minutes=1)}
    row = make_row(clock, State.READY, **values)
    Lease.objects.create(instance=row, worker="00000000-0000-0000-0000-000000000001", since=clock.now())
    found = get(f"/api/instances/{NAME}").json()
    assert found["sleeps_at"] is None
    assert found["leases"][0]["age_seconds"] >= 0


def test_an_unknown_instance_cannot_be_shown(db):
    assert get("/api/instances/nobody").status_code == 404


@pytest.mark.parametrize("url", ["/api/instances", f"/api/instances/{NAME}", "/api/instances/nobody"])
def test_looking_needs_a_login_and_the_permission(db, url):
    assert get(url, headers={}).status_code == 401
    client = Client()
    client.force_login(User.objects.create_user("anne"))
    assert client.get(url).status_code == 403


def test_looking_wakes_nothing_and_prolongs_nothing(worker_agent, engine, clock):
    make_row(clock, State.READY, last_used=clock.now())
    before = Instance.objects.values().get()
    get("/api/instances")
    get(f"/api/instances/{NAME}")
    assert Instance.objects.values().get() == before
    assert engine.calls == []
