"""The static security checks of `make check` (ruff's S rules) are on, and each exception has its reason."""

import re
import tomllib

from tests.servers import PROJECT

RUFF = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
PRODUCT = ["access", "agents_ui", "config", "events", "lifecycle", "telling"]
EXCEPTION = re.compile(r"# noqa: (S\d+)(.*)")


def test_they_are_on_for_the_whole_product():
    assert {"S", "RUF"} <= set(RUFF["select"])  # RUF100 names an exception that is not needed
    assert {rule for rule in RUFF["ignore"] if rule.startswith("S")} == {"S101", "S603"}
    assert [paths for paths, rules in RUFF["per-file-ignores"].items() if "S" in rules] == [
        "{tests,benchmarks,tools}/*"
    ]


def test_each_exception_has_its_reason_in_the_same_line():
    lines = [
        f"{path}: {line.strip()}"
        for app in PRODUCT
        for path in (PROJECT / app).rglob("*.py")
        for line in path.read_text().splitlines()
    ]
    exceptions = [(line, found[2]) for line in lines if (found := EXCEPTION.search(line))]
    assert exceptions
    assert [line for line, reason in exceptions if not re.fullmatch(r"  # .{5,}", reason)] == []
