"""How the number of rows changes the time of the page, of a resume and of the audit."""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from benchmarks.report import Section, Table, median, number, ratio
from benchmarks.servers import TOKEN, WebServer, dormouse_environment, manage
from tests.servers import PROJECT

ABOUT = """\
The same requests to two real web processes, by turns, on SQLite files that differ in the number of events alone: of
{instances} instances and {types} types, spread over 90 days. Medians of {times} requests, from the request to the last
byte. *A resume* asks /events for what follows the 20th event from the end. The audit's search is not among them: it
reads every row."""

DAYS = 90
#: Few enough that a page is full at 1,000 rows too.
INSTANCES = 4
#: As they follow one another. `agent-0` never deploys: see the last rows of the table.
TYPES = ["lazy_started", "lazy_stopped"] * 4 + ["lazy_start_failed", "deploy"]
DATA: dict[str, dict[str, object]] = {
    "lazy_started": {"latency_ms": 287, "run": 7, "start_ms": 240, "ready_ms": 47},
    "lazy_stopped": {"idle_seconds": 900, "run": 7},
    "lazy_start_failed": {
        "error": "exited with code 1 before it was ready",
        "cause": "exited",
        "exit_code": 1,
        "run": 7,
    },
    "deploy": {"version": "1.4.2"},
}
NEAR = 20
AUDIT = "/admin/events/eventlog/"
DEPLOYED, STARTED, FAILED = "deploy.finished", "container.lazy_started", "container.lazy_start_failed"
PATHS = {
    "Agents page": "/agents/",
    "Agents page, one instance": "/agents/?instance=agent-3",
    "Agents page, two instances": "/agents/?instance=agent-3&instance=agent-2",
    "Agents page, failures": "/agents/?failures=1",
    "Agents page, from the middle": "/agents/?before={middle}",
    "activity after a cursor": "/agents/activity?after={near}",
    "audit": AUDIT,
    "audit, page 5": f"{AUDIT}?p=5",
    "audit, one type": f"{AUDIT}?type={FAILED}",
    "audit, one instance": f"{AUDIT}?instance=agent-3",
    "audit, type and instance": f"{AUDIT}?type={STARTED}&instance=agent-3",
    "audit, the past 7 days": f"{AUDIT}?at__gte={{week}}",
    "audit, type and instance that never meet": f"{AUDIT}?type={DEPLOYED}&instance=agent-0",
    "Agents page, type and instance that never meet": f"/agents/?type={DEPLOYED}&instance=agent-0",
}
INSERT = "INSERT INTO event_log (id, type, instance, data, at) VALUES (?, ?, ?, ?, ?)"
SIGN_IN = """
import django; django.setup()
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from access.identity.sessions import SessionStore
user = User.objects.create_superuser("admin", password="admin")
session = SessionStore()
session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), settings.AUTHENTICATION_BACKENDS[0]
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
print(settings.SESSION_COOKIE_NAME, session.session_key)
"""


@dataclass(frozen=True)
class Site:
    """A web process on a log of `rows` events, and a signed-in user."""

    rows: int
    server: WebServer
    client: httpx.Client

    def get(self, path: str) -> None:
        week = f"{datetime.now(UTC) - timedelta(days=7):%Y-%m-%d}"
        full = path.format(middle=self.rows // 2, near=self.rows - NEAR, week=week)
        answer = self.client.get(full)
        assert answer.status_code == 200, f"{full}: {answer.status_code} {answer.headers.get('location')}"

    def resume(self) -> None:
        headers = {"Last-Event-ID": str(self.rows - NEAR), "Authorization": f"Bearer {TOKEN}"}
        last, body = f"\nid: {self.rows}\n", ""
        with self.client.stream("GET", "/events", headers=headers) as answer:
            for part in answer.iter_text():
                body += part
                if last in body:
                    return


def run(folder: Path, quick: bool) -> Section:
    sizes, times = ((1000, 20_000), 10) if quick else ((1000, 1_000_000), 25)
    empty = folder / "empty.db"
    environment = dormouse_environment(f"sqlite:///{empty}")
    manage(environment, "migrate", "--verbosity", "0", "--skip-checks")
    cookie = signed_in(environment)
    with ExitStack() as stack:
        sites = [stack.enter_context(site(folder, empty, rows, cookie)) for rows in sizes]
        table = compare(sites, times)
    about = ABOUT.format(instances=INSTANCES, types=len(DATA), times=times)
    return Section("The number of rows", about, {"": table})


def signed_in(environment: dict[str, str]) -> tuple[str, str]:
    """Return the name and value of the cookie of a superuser's session."""
    command = [sys.executable, "-c", SIGN_IN]
    done = subprocess.run(command, cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    name, value = done.stdout.split()
    return name, value


@contextmanager
def site(folder: Path, empty: Path, rows: int, cookie: tuple[str, str]) -> Iterator[Site]:
    database = folder / f"{rows}.db"
    shutil.copy(empty, database)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(INSERT, events(rows))
    environment = dormouse_environment(f"sqlite:///{database}")
    with (
        WebServer("config.asgi:application", environment, folder / f"{rows}.log") as server,
        httpx.Client(base_url=server.url, cookies=dict([cookie]), timeout=300) as client,
    ):
        yield Site(rows, server, client)


def lifelike_event(number: int) -> tuple[str, str, dict[str, object]]:
    """Type, instance and data of the event of that number."""
    type, instance = TYPES[number % len(TYPES)], number // len(TYPES) % INSTANCES
    if type == "deploy" and instance == 0:
        type = "lazy_stopped"
    return DEPLOYED if type == "deploy" else f"container.{type}", f"agent-{instance}", DATA[type]


def events(rows: int) -> Iterator[tuple[int, str, str, str, str]]:
    now = datetime.now(UTC)
    for id in range(1, rows + 1):
        type, instance, data = lifelike_event(id)
        at = now - timedelta(days=DAYS * (rows - id) / rows)
        yield id, type, instance, json.dumps(data), at.strftime("%Y-%m-%d %H:%M:%S.%f")


def compare(sites: list[Site], times: int) -> Table:
    asked: dict[str, Callable[[Site], None]] = {"a resume near the head": Site.resume}
    asked |= {what: lambda site, path=path: site.get(path) for what, path in PATHS.items()}
    rows = []
    for what, ask in asked.items():
        taken = timed(ask, sites, times)
        rows.append([what, *(f"{number(ms)} ms" for ms in taken), ratio(taken[1], taken[0])])
    return Table(["", *(f"{site.rows:,} rows" for site in sites), "ratio"], rows)


def timed(ask: Callable[[Site], None], sites: list[Site], times: int) -> list[float]:
    """Medians in ms, of each site; by turns, so that what else the machine does meets all of them."""
    taken: list[list[float]] = [[] for _ in sites]
    for site in sites:
        ask(site)
    for _ in range(times):
        for site, found in zip(sites, taken, strict=True):
            began = time.perf_counter()
            ask(site)
            found.append((time.perf_counter() - began) * 1000)
            if sum(found) > 20_000:
                return [median(one) for one in taken]
    return [median(one) for one in taken]
