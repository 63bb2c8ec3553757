"""Measure, print the tables, and after a whole run write them to docs/benchmarks.md."""

import argparse
import importlib
import resource
import tempfile
import time
from pathlib import Path

from benchmarks.report import Section, describe_machine
from tests.servers import PROJECT

SECTIONS = [
    "stream",
    "across",
    "stalled",
    "appends",
    "rows",
    "cold-start",
    "swarm",
    "warm-dispatch",
    "uploads",
    "observing",
    "page",
]
PAGE = PROJECT / "docs" / "benchmarks.md"
HEAD = """\
# Benchmarks

Made by `make bench`, in one run on one machine, with everything side by side. The ratios and the counts hold on other
machines; the absolute figures do not. No figure is a test."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="SECTION,...", help=f"of: {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="few readers, rows and repetitions: under two minutes")
    found = parser.parse_args()
    found.sections = found.only.split(",") if found.only else SECTIONS
    unknown = set(found.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are: {', '.join(SECTIONS)}")
    return found


def measure(name: str, quick: bool) -> Section:
    began = time.monotonic()
    module = importlib.import_module(f"benchmarks.sections.{name.replace('-', '_')}")
    with tempfile.TemporaryDirectory(prefix="dormouse-bench-") as folder:
        section: Section = module.run(Path(folder), quick)
    print(f"\n{section}\n\n({name}: {time.monotonic() - began:.0f} s)", flush=True)
    return section


def main() -> None:
    asked = parse_arguments()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a thousand sockets, and as many database connections
    described = describe_machine()
    print(described)
    sections = [measure(name, asked.quick) for name in asked.sections]
    if asked.quick or asked.only:
        print("\nNothing was written: docs/benchmarks.md is for a whole run.")
        return
    PAGE.write_text("\n\n".join([HEAD, described, *map(str, sections)]) + "\n")
    print(f"\nWritten to {PAGE.relative_to(PROJECT)}.")


if __name__ == "__main__":
    main()
