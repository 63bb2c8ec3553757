"""How many events a second are appended to the log, with one commit each."""

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.load.marks import data
from benchmarks.report import Section, Table, median, number, ratio
from benchmarks.servers import Publisher, dormouse_environment, manage

ABOUT = """\
`events.log.record()` beside a bare loop of Python's `sqlite3`, both in WAL mode with `synchronous=FULL` and a commit
for each append. Both write the same rows into the same table with its indexes and triggers, in two files of one disk;
{rounds} rounds of {rows} rows each, by turns. The ratio is the median of the rounds' ratios."""
INSERT = "INSERT INTO event_log (type, instance, data, at) VALUES (?, ?, ?, ?)"


def run(folder: Path, quick: bool) -> Section:
    rounds, rows = (3, 100) if quick else (9, 500)
    ours = dormouse_environment(f"sqlite:///{folder}/ours.db")
    theirs = folder / "bare.db"
    for environment in (ours, dormouse_environment(f"sqlite:///{theirs}")):
        manage(environment, "migrate", "--verbosity", "0", "--skip-checks")
    bare = sqlite3.connect(theirs, isolation_level=None)
    bare.execute("PRAGMA journal_mode=WAL")
    bare.execute("PRAGMA synchronous=FULL")
    rates: list[tuple[float, float]] = []
    with Publisher(ours) as publisher:
        for index in range(rounds):
            first = 1 + index * rows
            timed = [
                seconds(lambda first=first: publisher.publish(first, rows)),
                seconds(lambda first=first: append(bare, first, rows)),
            ]
            rates.append((rows / timed[0], rows / timed[1]))
    bare.close()
    return Section("Appends", ABOUT.format(rounds=rounds, rows=rows), {"": table(rates)})


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def append(bare: sqlite3.Connection, first: int, rows: int) -> None:
    for index in range(first, first + rows):
        bare.execute("BEGIN IMMEDIATE")
        bare.execute(INSERT, ("bench.mark", "", json.dumps(data(index)), "2026-01-01 00:00:00"))
        bare.execute("COMMIT")


def table(rates: list[tuple[float, float]]) -> Table:
    ours, bare = (median(rate) for rate in zip(*rates, strict=True))
    shares = median(one / other for one, other in rates)
    rows = [
        ["record(), appends per second", number(ours), ratio(shares, 1)],
        ["bare sqlite3, appends per second", number(bare), "1x"],
    ]
    return Table(["", f"median of {len(rates)}", "ratio"], rows)
