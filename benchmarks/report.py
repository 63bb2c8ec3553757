"""Tables of numbers, as Markdown that can also be read in a terminal."""

import os
import platform
import sqlite3
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("Django", "channels", "daphne", "django-eventstream", "docker")


@dataclass(frozen=True)
class Table:
    """A table. `head` names the columns. A row holds what is measured, then one cell for each column."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        widths = [max(len(row[column]) for row in [self.head, *self.rows]) for column in range(len(self.head))]
        lines = [_line(self.head, widths), _line(["-" * widths[0]] + ["-" * (w - 1) + ":" for w in widths[1:]], widths)]
        return "\n".join(lines + [_line(row, widths) for row in self.rows])


@dataclass(frozen=True)
class Section:
    """One subject: what is compared and how, then the results."""

    title: str
    about: str
    tables: dict[str, Table] = field(default_factory=dict)

    def __str__(self) -> str:
        tables = [f"### {title}\n\n{table}" if title else str(table) for title, table in self.tables.items()]
        return "\n\n".join([f"## {self.title}", self.about, *tables])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cells[0].ljust(widths[0])] + [
        cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)
    ]
    return f"| {' | '.join(padded)} |"


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the value of the nearest rank, or NaN if there are no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")


def median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else float("nan")


def number(value: float) -> str:
    """Return `value` with three significant digits, as people write it."""
    if value != value:
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ratio(value: float, to: float) -> str:
    return f"{number(value / to)}x" if to else "-"


def describe_machine() -> str:
    """Return the time, the machine and the versions of a measurement."""
    cpu = next((line.split(":")[1] for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    memory = int(_lines("/proc/meminfo")[0].split()[1]) / 1024**2
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, on {os.cpu_count()} cores ({cpu.strip()}) with "
        f"{memory:.0f} GB of memory, {platform.system()} {platform.release()}. Python {sys.version.split()[0]}, "
        f"SQLite {sqlite3.sqlite_version}, {versions}. Load average at the start: {os.getloadavg()[0]:.1f}."
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
