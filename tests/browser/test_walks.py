"""From the first view of the page to the reason and to what to do, in at most two steps, on a phone and on a desk."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from events.log import record
from lifecycle.models import EngineStatus, Instance
from tests.browser.seeing import SignIn
from tests.servers import Server, database_url, wait_for

NAME = "reviewer-default"
SIZES = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1280, "height": 800}}
TAIL = 'Traceback (most recent call last):\n  File "agent.py", line 8\nKeyError: "API_KEY"\n'


@dataclass(frozen=True)
class Walk:
    """What has happened, what an operator presses (at most two), and what is then in view."""

    happen: Callable[[], None]
    presses: tuple[str, ...]
    reason: str
    advice: str


def set_row(**values: Any) -> None:
    Instance.objects.filter(pk=NAME).update(**values)


def fail_to_start() -> None:
    error = "exited with code 1 before it was ready"
    set_row(failure={"run": 3, "at": timezone.now().isoformat(), "error": error, "cause": "exited"})
    record("container.lazy_started", instance=NAME, data={"latency_ms": 287})
    for _ in range(3):
        data = {"error": error, "cause": "exited", "exit_code": 1, "log_tail": TAIL}
        record("container.lazy_start_failed", instance=NAME, data=data)


def end(code: int, work_in_flight: int, tail: str) -> None:
    told = {"exit_code": code, "cause": "exited", "ran_seconds": 184, "work_in_flight": work_in_flight}
    set_row(exit=told | {"at": timezone.now().isoformat()})
    record("container.exited", instance=NAME, data=told | {"log_tail": tail})


def fail_at_work(status: int, error: str) -> None:
    now = timezone.now()
    work_failure = {"at": now.isoformat(), "error": error, "status": status}
    set_row(state="ready", last_used=now, work_failure=work_failure)
    record("container.lazy_started", instance=NAME, data={"latency_ms": 287})
    record("work.failed", instance=NAME, data={"status": status, "error": error, "seconds": 12, "for": "PR 812"})


def refuse_to_stop() -> None:
    now, error = timezone.now(), "cannot stop container: permission denied"
    next_try = (now + timedelta(minutes=4)).isoformat()
    set_row(state="ready", stop_failure={"at": now.isoformat(), "error": error, "next_try": next_try, "tries": 2})
    record("container.lazy_stop_failed", instance=NAME, data={"error": error})


def lose_the_engine() -> None:
    error = "dial unix /var/run/docker.sock: connect: connection refused"
    EngineStatus.objects.update(answered=timezone.now() - timedelta(minutes=9), error=error)


def never_dispatch() -> None:
    set_row(run=0, last_used=None)


def disable() -> None:
    by = {"by": "alice", "by_kind": "user"}
    set_row(disabled={"at": timezone.now().isoformat(), "reason": "model key rotated", "force": False} | by)
    record("container.disabled", instance=NAME, data={"reason": "model key rotated"} | by)


def vanish() -> None:
    set_row(present=False, absent_since=timezone.now() - timedelta(hours=2))


ROW = f"#instances a:has-text('{NAME}')"
CARD = ".card.failed a:has-text('Details')"
WALKS = {
    "start failed": Walk(fail_to_start, (CARD,), 'KeyError: "API_KEY"', "Read its output"),
    "crashed at work": Walk(lambda: end(3, 1, TAIL), (CARD,), "with code 3", "Read its output"),
    "killed while idle": Walk(lambda: end(137, 0, ""), (CARD,), "with code 137", "next dispatch starts it"),
    "answered 500": Walk(lambda: fail_at_work(500, "answered 500 after 12 s"), (CARD,), "answered 500", "docker logs"),
    "hangs": Walk(lambda: fail_at_work(504, "did not begin its answer after 60 s"), (CARD,), "did not begin", "longer"),
    "disabled": Walk(disable, (), "model key rotated", "until it is enabled"),
    "stop refused": Walk(refuse_to_stop, (CARD,), "permission denied", "Stop it yourself"),
    "engine down": Walk(lose_the_engine, (), "connection refused", "Check that it runs"),
    "never dispatched to": Walk(never_dispatch, (ROW,), "No work was dispatched", f"manage.py dispatch {NAME}"),
    "gone from the engine": Walk(vanish, (), f"{NAME}, since", "Create the container again"),
}


@pytest.fixture(scope="module")
def docker_web(chromium: Browser, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a web process that shows what is known of a Docker Engine, and does not ask one."""
    environment = {"DATABASE_URL": database_url(), "DORMOUSE_ENGINE": "docker", "DORMOUSE_SUPERVISOR": "external"}
    server = Server(environment, log=tmp_path_factory.mktemp("docker") / "server.log")
    yield server.wait_until_up()
    server.stop()


@pytest.fixture
def agents(docker_web: Server, operator: User) -> Server:
    """Add eight agents, of which seven are as they should be, and an engine that answers."""
    now = timezone.now()
    EngineStatus.objects.create(engine="docker", asked=now, answered=now)
    for name in ("builder", "designer", "planner", "scribe", "tester", "translator", "writer"):
        state = "ready" if name == "planner" else "asleep"
        Instance.objects.create(name=f"{name}-default", since=now, run=2, last_used=now, state=state)
        record("container.lazy_started", instance=f"{name}-default", data={"latency_ms": 287})
    Instance.objects.create(name=NAME, since=now, run=3, last_used=now)
    return docker_web


def is_in_view(page: Page, words: str) -> bool:
    """Return whether a text can be read without scrolling."""
    inside = "part => part.getBoundingClientRect().top >= 0 && part.getBoundingClientRect().top < innerHeight"
    parts = page.get_by_text(words).locator("visible=true")
    return bool(parts.evaluate_all(f"parts => parts.some({inside})"))


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
def test_in_two_steps_to_the_reason_and_to_what_to_do(agents: Server, sign_in: SignIn, walk: Walk, size: Any):
    walk.happen()
    page = sign_in(agents, viewport=size)
    was_seen = is_in_view(page, walk.reason)
    for press in walk.presses:
        expect(page.locator(press).first).to_be_in_viewport()
        page.locator(press).first.click()
    wait_for(lambda: is_in_view(page, walk.advice), what="what to do")
    assert was_seen or is_in_view(page, walk.reason)
