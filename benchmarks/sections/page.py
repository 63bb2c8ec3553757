"""The Agents page on a phone: over slow 4G, with a CPU four times slower."""

import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from benchmarks.load.slow_line import SlowLine
from benchmarks.report import Section, Table, median, number, percentile, ratio
from benchmarks.sections.rows import INSERT, INSTANCES, events, signed_in
from benchmarks.servers import Publisher, dormouse
from tests.servers import PROJECT

CPU_TIMES_SLOWER = 4
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 3, "has_touch": True, "is_mobile": True}
SEED_ROWS = 1000
MANY = 200
HELD = 100
EVENTS_PER_SECOND = 10
#: The page asks for rows at most once a second: further apart, each event is one by itself.
APART_SECONDS = (1.3, 2.6)
#: Playwright asks nothing of the page around a tap, because its own scripts would be part of what is measured.
CALM_SECONDS = 1.5
MB = 1024 * 1024

TITLE = "The Agents page on a phone"
ABOUT = """\
Debian's Chromium, headless, as a phone whose CPU is {slower} times slower (by DevTools) than this machine's, behind a
line with the figures of Lighthouse's slow 4G: a round trip of 150 ms, 1.6 Mbit/s down and 0.75 up, and a round trip
more for a new connection. The log has {seed:,} events before. There are {few} agents, or {many}, on two sites that
are measured one after the other for each line; the ratio is that of the medians. *The largest
paint* is that of a first visit, with nothing cached, {loads} times. *An event* is from the return of the commit to
the frame that has its row, for {singles} events that come singly. *An order* is from the answer that an agent was
disabled to the frame of another reader's page whose card says by whom, {orders} times. *The button* is from the tap
on "Show {held} new events" to the next frame (Event Timing), {taps} times. *The heap* is JavaScript's, after a
garbage collection, over {seconds} s of {a_second} events a second, with which the list grows from 50 rows to {rows};
of these {missing} were missing, repeated or out of order."""

#: When each row was in a frame, by its event's id, in ms of wall time.
WATCH_ROWS = """() => {
    window.shown = {};
    new MutationObserver((changes) => {
        const rows = changes.flatMap((change) => [...change.addedNodes]).filter((node) => node.querySelectorAll)
            .flatMap((node) => node.matches(".row") ? [node] : [...node.querySelectorAll(".row")]);
        requestAnimationFrame(() => setTimeout(() => {
            for (const row of rows) shown[row.dataset.id] ??= performance.timeOrigin + performance.now();
        }));
    }).observe(document.getElementById("timeline"), {childList: true, subtree: true});
}"""
#: When each card said that its agent is disabled, by the agent's name, in ms of wall time.
WATCH_CARDS = """() => {
    window.disabled = {};
    new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => {
        for (const card of document.querySelectorAll("#instances .card")) {
            if (!card.textContent.includes("Disabled by operator")) continue;
            disabled[card.querySelector(".name").textContent] ??= performance.timeOrigin + performance.now();
        }
    }))).observe(document.getElementById("instances"), {childList: true, subtree: true});
}"""
WATCH_TAPS = """() => {
    window.taps = [];
    new PerformanceObserver((list) => taps.push(...list.getEntries()
        .filter((entry) => entry.interactionId).map((entry) => entry.duration)))
        .observe({type: "event", durationThreshold: 16});
}"""
LARGEST_PAINT = """() => new Promise((done) => new PerformanceObserver((list) =>
    done(list.getEntries().at(-1).startTime)).observe({type: "largest-contentful-paint", buffered: true}))"""


@dataclass(frozen=True)
class Visit:
    """A first visit with nothing cached, when the page is live."""

    page: Page
    devtools: CDPSession

    def heap_bytes(self) -> int:
        self.devtools.send("HeapProfiler.collectGarbage")
        used: int = self.devtools.send("Runtime.getHeapUsage")["usedSize"]
        return used

    def wait_for_row(self, id: int) -> None:
        self.page.locator(f".row[data-id='{id}']").wait_for(state="attached", timeout=60_000)


@dataclass(frozen=True)
class Phone:
    """A phone that visits the page. `url` is that of the slow line."""

    browser: Browser
    url: str
    cookie: tuple[str, str]

    @contextmanager
    def visit(self) -> Iterator[Visit]:
        with closing(self.browser.new_context(**PHONE)) as context:  # type: ignore[arg-type]
            name, value = self.cookie
            # The zone is known from an earlier day: without it the rows are drawn a second time, in the zone.
            cookies = {name: value, "zone": "UTC"}
            context.add_cookies([{"name": key, "value": cookies[key], "url": self.url} for key in cookies])
            page = context.new_page()
            devtools = context.new_cdp_session(page)
            devtools.send("Emulation.setCPUThrottlingRate", {"rate": CPU_TIMES_SLOWER})
            page.goto(f"{self.url}/agents/")
            page.get_by_text("Live", exact=True).wait_for(timeout=60_000)
            yield Visit(page, devtools)


def run(folder: Path, quick: bool) -> Section:
    chromium = shutil.which("chromium")
    if not chromium:
        return Section(TITLE, "Not measured: it needs Debian's Chromium (apt-get install chromium).")
    times = Times(2, 5, 1, 20) if quick else Times(9, 40, 5, 300)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with site_on(folder / "few", browser, INSTANCES) as few, site_on(folder / "many", browser, MANY) as many:
            rows = [compared(subject, few, many, times) for subject in SUBJECTS]
            more_bytes, shown, missing = grown_heap(few.phone, few.log, times.seconds * EVENTS_PER_SECOND)
        rows.append(["the heap, more than before", f"{number(more_bytes / MB)} MB", "", "", "", "", "10 MB"])
        browser.close()
    about = ABOUT.format(
        slower=CPU_TIMES_SLOWER,
        seed=SEED_ROWS,
        few=INSTANCES,
        many=MANY,
        loads=times.loads,
        singles=times.singles,
        orders=INSTANCES,
        held=HELD,
        taps=times.taps,
        seconds=times.seconds,
        a_second=EVENTS_PER_SECOND,
        rows=shown,
        missing=missing,
    )
    head = ["", f"{INSTANCES} agents", "p95", f"{MANY} agents", "p95", "ratio", "goal"]
    return Section(TITLE, about, {"": Table(head, rows)})


@dataclass(frozen=True)
class Times:
    """Say how often each thing is measured, and for how many seconds the heap grows."""

    loads: int
    singles: int
    taps: int
    seconds: int


@contextmanager
def site_on(folder: Path, browser: Browser, agents: int) -> "Iterator[Site]":
    """Provide a site with so many agents, and a phone that visits it."""
    folder.mkdir()
    with ExitStack() as stack:
        server, environment = stack.enter_context(dormouse(folder))
        seed(Path(environment["DATABASE_URL"].removeprefix("sqlite:///")), agents)
        publisher = stack.enter_context(Publisher(environment))
        line = stack.enter_context(SlowLine(server.port))
        phone = Phone(browser, line.url, signed_in(environment))
        yield Site(phone, Log(publisher), Orders(server.url, environment))


def compared(subject: "Subject", few: "Site", many: "Site", times: Times) -> list[str]:
    """Measure one thing on both sites, one after the other. Return its row of the table."""
    what, goal_ms, measure = subject
    cells, medians = [], []
    for site in (few, many):
        times_ms = measure(site, times)
        medians.append(median(times_ms))
        cells += [f"{number(medians[-1])} ms", f"{number(percentile(times_ms, 95))} ms"]
    return [what, *cells, ratio(medians[1], medians[0]), f"{number(goal_ms)} ms"]


def seed(database: Path, agents: int) -> None:
    instance = """INSERT INTO lifecycle_instance (name, state, since, version, run, incarnation, probed, present,
        label_error, label_warning) VALUES (?, 'asleep', datetime('now'), 0, 1, '', 0, 1, '', '')"""
    status = """INSERT INTO lifecycle_enginesight (engine, asked, error, near_misses)
        VALUES ('process', '2999-01-01', '', '[]')"""
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        connection.executemany(INSERT, events(SEED_ROWS))
        connection.executemany(instance, [(f"agent-{number}",) for number in range(agents)])
        connection.execute(status)


class Log:
    """Records events by a process of its own. It knows their ids, because no other process writes."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.latest = SEED_ROWS

    def record(self, count: int, pause_seconds: float = 0) -> dict[int, float]:
        """Record events. Return by id when the commit had returned, in ms of wall time."""
        to_wall_ns = time.time_ns() - time.monotonic_ns()
        returned = self._publisher.publish(self.latest + 1, count, pause_seconds=pause_seconds, lifelike=True)
        first = self.latest + 1
        self.latest += count
        return {first + index: (ns + to_wall_ns) / 1e6 for index, ns in enumerate(returned)}


class Orders:
    """Disables agents, as the operator of another page."""

    def __init__(self, url: str, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "django", "create_token", "operator", "--role", "operator"]
        done = subprocess.run(command, cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        self._url, self._headers = url, {"Dormouse-Token": done.stdout.split()[-1]}

    def disable(self, name: str) -> float:
        """Disable an agent. Return when the answer was there, in ms of wall time."""
        address = f"{self._url}/api/instances/{name}/disabled"
        httpx.put(address, json={"reason": "model key rotated"}, headers=self._headers).raise_for_status()
        return time.time_ns() / 1e6


@dataclass(frozen=True)
class Site:
    """A web process, the phone that visits it, and what writes there."""

    phone: Phone
    log: Log
    orders: Orders


def orders_to_cards(site: "Site") -> list[float]:
    with site.phone.visit() as visit:
        visit.page.evaluate(WATCH_CARDS)
        ordered = {}
        for number in range(INSTANCES):
            ordered[f"agent-{number}"] = site.orders.disable(f"agent-{number}")
            visit.page.wait_for_function("count => Object.keys(disabled).length >= count", arg=number + 1)
            time.sleep(random.uniform(*APART_SECONDS))
        shown = visit.page.evaluate("disabled")
    site.log.latest += len(ordered)  # each has an event
    return [shown[name] - at for name, at in ordered.items()]


def largest_paints(phone: Phone, times: int) -> list[float]:
    found = []
    for _ in range(times):
        with phone.visit() as visit:
            found.append(float(visit.page.evaluate(LARGEST_PAINT)))
    return found


def events_to_rows(phone: Phone, log: Log, times: int) -> list[float]:
    recorded: dict[int, float] = {}
    with phone.visit() as visit:
        visit.page.evaluate(WATCH_ROWS)
        for _ in range(times):
            recorded |= log.record(1)
            visit.wait_for_row(log.latest)
            time.sleep(random.uniform(*APART_SECONDS))
        shown = visit.page.evaluate("shown")
    return [shown[str(id)] - at for id, at in recorded.items()]


def button_taps(phone: Phone, log: Log, times: int) -> list[float]:
    """Return Event Timing, in steps of 8 ms. It leaves out what takes less than 16 ms, which is 16 here."""
    found = []
    with phone.visit() as visit:
        page = visit.page
        page.evaluate(WATCH_TAPS)
        for _ in range(times):
            page.locator(".row").nth(30).scroll_into_view_if_needed()
            log.record(HELD)
            button = page.get_by_role(
                "button", name=re.compile(f"^Show {HELD} new events")
            )  # it counts the failed ones
            button.wait_for(timeout=60_000)
            box = button.bounding_box()
            assert box
            page.evaluate("taps.length = 0")
            time.sleep(CALM_SECONDS)
            page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            time.sleep(CALM_SECONDS)
            visit.wait_for_row(log.latest)
            found.append(float(page.evaluate("Math.max(16, ...taps)")))
    return found


def grown_heap(phone: Phone, log: Log, count: int) -> tuple[int, int, int]:
    """Return how many bytes the heap grew by, how many rows there are then, and how many of them are wrong."""
    with phone.visit() as visit:
        before = visit.heap_bytes()
        log.record(count, pause_seconds=1 / EVENTS_PER_SECOND)
        visit.wait_for_row(log.latest)
        more_bytes = visit.heap_bytes() - before
        shown = visit.page.locator(".row").evaluate_all("rows => rows.map(row => +row.dataset.id)")
    expected = range(log.latest, log.latest - len(shown), -1)
    return more_bytes, len(shown), sum(one != other for one, other in zip(shown, expected, strict=True))


Subject = tuple[str, int, Callable[[Site, Times], list[float]]]
#: What is measured on both sites, its goal in ms, and how it is measured.
SUBJECTS: list[Subject] = [
    ("the largest paint", 1500, lambda site, times: largest_paints(site.phone, times.loads)),
    ("an event to its row", 500, lambda site, times: events_to_rows(site.phone, site.log, times.singles)),
    ("an order to others' cards", 1000, lambda site, times: orders_to_cards(site)),
    (f"the button for {HELD} held rows", 200, lambda site, times: button_taps(site.phone, site.log, times.taps)),
]
