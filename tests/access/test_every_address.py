"""One table: what each address answers, with each method, to everyone who may ask.

It is made from the URL configuration: a new address without a decision here fails.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from access.models import Token
from access.permissions import ADD_EVENTS, CONTROL, DISPATCH, ROLES, VIEW_EVENTS
from agents_ui import orders
from events.log import record
from events.stream.consumer import EventStream
from events.stream.reader import Limits
from lifecycle import assembly
from lifecycle.api import control
from lifecycle.exceptions import UnknownInstance
from lifecycle.models import EngineStatus, Instance, Lease, Worker
from telling.subscriptions.models import Subscription
from telling.subscriptions.targets import parse
from tests.addresses import patterns

pytestmark = pytest.mark.slow
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
#: The admin treats other methods as GET.
ADMIN_METHODS = ["GET", "POST", "DELETE"]
CSRF = "t" * 32
#: What Django asks of a form. Any browser gets it with the login page.
WITH_CSRF = {"Cookie": f"csrftoken={CSRF}", "X-CSRFToken": CSRF}


@dataclass(frozen=True)
class Actor:
    """A caller with certain rights."""

    is_signed_in: bool = True
    permissions: frozenset[str] = frozenset()
    is_staff: bool = False
    is_superuser: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def may(self, permission: str) -> bool:
        return self.is_superuser or permission in self.permissions


Rule = Callable[[Actor], str]


def everyone(actor):
    return "in"


def signed_out(actor):
    return "login"


def closed(actor):
    return "405"


def api(permission: str) -> Rule:
    return lambda actor: "401" if not actor.is_signed_in else "in" if actor.may(permission) else "403"


def page(permission: str) -> Rule:
    return lambda actor: "login" if not actor.is_signed_in else "in" if actor.may(permission) else "403"


def staff(permission: str | None = None) -> Rule:
    return lambda actor: "login" if not actor.is_staff else "403" if permission and not actor.may(permission) else "in"


def nobody(actor):
    return "403" if actor.is_staff else "login"


def refusing(rule: Rule) -> Rule:
    """Return the rule of a method that the address does not have, if the address decides access first."""
    return lambda actor: "405" if rule(actor) == "in" else rule(actor)


def staff_or(outcome: str) -> Rule:
    """The rule of the admin's logout, which leads everyone else to the admin."""
    return lambda actor: outcome if actor.is_staff else "in"


def safe(rule: Rule) -> dict[str, Rule]:
    """The rule of an address that can only be read."""
    return {"GET": rule, "HEAD": rule, "*": closed}


def post(rule: Rule) -> dict[str, Rule]:
    return {"POST": rule, "*": closed}


def model(name: str, **rules: Rule) -> dict[str, dict[str, Rule]]:
    """The admin's addresses of a model that staff may view, and do no more to unless `rules` says so."""
    app, _, row = name.partition("/")
    view = staff(f"{app}.view_{row}")
    refused = {"add": nobody, "change": nobody, "delete": nobody} | rules
    return {
        f"admin/{name}/": {"*": view},
        f"admin/{name}/add/": {"*": refused["add"]},
        f"admin/{name}/<path:object_id>/history/": {"*": view},
        f"admin/{name}/<path:object_id>/delete/": {"*": refused["delete"]},
        f"admin/{name}/<path:object_id>/change/": {"POST": refused["change"], "*": view},
        f"admin/{name}/<path:object_id>/": {"*": staff()},  # leads to .../change/
    }


def edited(name: str) -> dict[str, Rule]:
    app, _, row = name.partition("/")
    return {action: staff(f"{app}.{action}_{row}") for action in ("add", "change", "delete")}


#: `*` stands for the methods that are not named.
TABLE: dict[str, dict[str, Rule]] = {
    "": {"*": everyone},
    "favicon.ico": {"*": everyone},
    "healthz": safe(everyone),
    "accounts/login/": {"PATCH": closed, "DELETE": closed, "*": everyone},
    "accounts/logout/": {"POST": signed_out, "OPTIONS": everyone, "*": closed},
    "agents/": safe(page(VIEW_EVENTS)),
    "agents/activity": safe(api(VIEW_EVENTS)),
    "agents/activity/<int:id>": safe(page(VIEW_EVENTS)),
    "agents/instances": safe(api(VIEW_EVENTS)),
    **{f"agents/instances/<str:name>/{order}": post(page(DISPATCH)) for order in ("wake", "keep-awake", "let-sleep")},
    **{f"agents/instances/<str:name>/{order}": post(page(CONTROL)) for order in ("sleep", "enable")},
    "agents/instances/<str:name>/disable": {"GET": page(CONTROL), "POST": page(CONTROL), "*": closed},
    "events": {"GET": api(VIEW_EVENTS), "*": closed},
    "metrics": safe(api(VIEW_EVENTS)),
    "api/openapi.json": safe(api(VIEW_EVENTS)),
    "api/events": safe(api(VIEW_EVENTS)) | post(api(ADD_EVENTS)),
    "api/instances": safe(api(VIEW_EVENTS)),
    "api/instances/<str:name>": safe(api(VIEW_EVENTS)),
    "api/instances/<str:name>/wake": post(api(DISPATCH)),
    "api/instances/<str:name>/sleep": post(api(CONTROL)),
    "api/instances/<str:name>/awake-until": {"PUT": api(DISPATCH), "DELETE": api(DISPATCH), "*": closed},
    "api/instances/<str:name>/disabled": {"PUT": api(CONTROL), "DELETE": api(CONTROL), "*": closed},
    "api/instances/<str:name>/dispatch": {"POST": api(DISPATCH), "*": refusing(api(DISPATCH))},
    "api/instances/<str:name>/proxy/<path:path>": {"*": api(DISPATCH)},
    "admin/": {"*": staff()},
    "admin/login/": {"DELETE": closed, "*": everyone},
    "admin/logout/": {"GET": staff_or("405"), "POST": staff_or("login"), "DELETE": everyone},  # signed out by the POST
    "admin/password_change/": {"DELETE": refusing(staff()), "*": staff()},
    "admin/password_change/done/": {"GET": staff(), "*": refusing(staff())},
    "admin/autocomplete/": {"GET": nobody, "*": refusing(staff())},
    "admin/jsi18n/": {"GET": staff(), "*": refusing(staff())},
    "admin/r/<path:content_type_id>/<path:object_id>/": {"*": staff()},
    "admin/<app_label>/": {"*": staff()},
    "admin/<url>": {"*": staff()},
    "admin/auth/user/<id>/password/": {"*": staff("auth.change_user")},
    **model("events/eventlog"),
    **model("lifecycle/instance"),
    **model("lifecycle/worker"),
    **model("lifecycle/lease"),
    **model("lifecycle/enginestatus"),
    **model("access/token"),
    **model("axes/accessattempt"),
    **model("telling/subscription"),
    **model("auth/user", **edited("auth/user")),
    **model("auth/group", **edited("auth/group")),
}


def test_every_address_has_a_decision_and_every_decision_an_address():
    assert set(TABLE) == set(patterns())


def sample_rows() -> dict[str, Any]:
    """Make a row of each model of the admin."""
    instance = Instance.objects.register("reviewer-default", now=timezone.now(), idle_timeout=None)
    worker = Worker.objects.create(kind="web", pid=1, started=timezone.now())
    subscription, _ = Subscription.objects.subscribe(parse("https://example.org/"), name="ops", cursor=0)
    attempt = AccessAttempt.objects.create(username="x", failures_since_start=1)
    return {
        "events/eventlog": record("a.b"),
        "lifecycle/instance": instance,
        "lifecycle/worker": worker,
        "lifecycle/lease": Lease.objects.create(instance=instance, worker=worker.pk, since=timezone.now()),
        "lifecycle/enginestatus": EngineStatus.objects.create(engine="process", asked=timezone.now()),
        "access/token": Token.objects.filter(name="viewer").first(),
        "axes/accessattempt": attempt,
        "telling/subscription": subscription,
        "auth/user": User.objects.create_user("other"),
        "auth/group": Group.objects.get(name="Viewers"),
    }


def address_of(pattern: str, rows: dict[str, Any]) -> str:
    """Return an address that fits the pattern, of a row that there is."""
    row = next((row for name, row in rows.items() if pattern.startswith(f"admin/{name}/")), rows["events/eventlog"])
    known = {
        "name": "reviewer-default",
        "path": "v1/models",
        "content_type_id": 1,
        "app_label": "events",
        "url": "nothing",
    }
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(known.get(found[1], row.pk)), pattern)


def make_actors() -> dict[str, Actor]:
    """Return everyone: those who are not let in, a token of each role, and people."""
    now = timezone.now()
    issue = Token.objects.issue
    revoked = issue("revoked", "operator")[1]
    Token.objects.filter(name="revoked").revoke(now)
    expired = issue("expired", "operator", expires=now - timedelta(seconds=1))[1]
    strangers = {
        "nobody": {},
        "wrong": bearer("dm_" + "x" * 43),
        "expired": bearer(expired),
        "revoked": bearer(revoked),
    }
    return (
        {name: Actor(is_signed_in=False, headers=headers | WITH_CSRF) for name, headers in strangers.items()}
        | {role: Actor(permissions=ROLES[role], headers=bearer(issue(role, role)[1])) for role in ROLES}
        | {name: person(name) for name in ("person", "staff", "superuser")}
    )


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def person(name: str) -> Actor:
    """Return a person with a session: one without rights, staff of the group Viewers, or a superuser."""
    is_staff, is_superuser = name != "person", name == "superuser"
    user = User.objects.create_user(name, is_staff=is_staff, is_superuser=is_superuser)
    if name == "staff":
        user.groups.add(Group.objects.get(name="Viewers"))
    client = Client()
    client.force_login(user)
    headers = WITH_CSRF | {"Cookie": f"sessionid={client.session.session_key}; {WITH_CSRF['Cookie']}"}
    return Actor(True, frozenset(user.get_all_permissions()), is_staff, is_superuser, headers)


def outcome_of(response: httpx.Response) -> str:
    if response.status_code == 302 and "/login/" in response.headers["location"]:
        return "login"
    return str(response.status_code) if response.status_code in (401, 403, 405) else "in"


@pytest.fixture
def application(transactional_db, monkeypatch):
    """The whole ASGI application, whose streams end at once and whose dispatches find no instance."""
    from config.asgi import application

    async def no_dispatcher():
        raise UnknownInstance("reviewer-default")

    async def no_order(*arguments):
        raise UnknownInstance("reviewer-default")

    monkeypatch.setattr(EventStream, "limits", Limits(lifetime_seconds=0.01))
    monkeypatch.setattr(assembly, "dispatcher", no_dispatcher)
    monkeypatch.setattr(control, "in_own_thread", no_order)
    monkeypatch.setattr(orders, "in_own_thread", no_order)
    return application


#: In parts, because logging out ends a session.
PARTS = sorted({pattern.partition("/")[0] + "/" * ("logout" in pattern) for pattern in TABLE})


@pytest.mark.parametrize("part", PARTS)
def test_every_address_answers_as_decided(application, part, uses_are_written_at_once):
    actors, wrong = make_actors(), []
    rows = sample_rows()
    chosen = [pattern for pattern in TABLE if pattern.partition("/")[0] + "/" * ("logout" in pattern) == part]

    async def ask_everything():
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
            for pattern in chosen:
                address, rules = address_of(pattern, rows), TABLE[pattern]
                for method in ADMIN_METHODS if part.startswith("admin") else METHODS:
                    for name, actor in actors.items():
                        expected = rules.get(method, rules.get("*"))(actor)
                        answer = await client.request(method, address, headers=actor.headers)
                        assert answer.status_code < 500, (method, address, name, answer.text)
                        if (found := outcome_of(answer)) != expected:
                            wrong.append(f"{method} {address} by {name}: {found}, not {expected}")

    asyncio.run(ask_everything())
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("method", METHODS)
def test_a_stranger_without_a_csrf_token_gets_no_403_from_the_api(application, method):
    """It would name the wrong cause. 401 says to sign in, and 405 that there is no such method."""
    rows = sample_rows()

    async def ask_everything():
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return {
                pattern: (await client.request(method, address_of(pattern, rows))).status_code
                for pattern in TABLE
                if pattern.startswith("api/")
            }

    found = asyncio.run(ask_everything())
    assert {pattern: status for pattern, status in found.items() if status not in (401, 405)} == {}
