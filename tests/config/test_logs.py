"""Log lines cannot be forged by names, errors or outputs."""

import logging
import sys

import pytest
from django.conf import settings

from config.logs import OneLineFormatter

FORGED = "2026-01-01 00:00:00,000 ERROR access: forged"


@pytest.fixture
def formatter():
    one = settings.LOGGING["formatters"]["text"]
    return OneLineFormatter(one["format"], style=one["style"])


def record(message, *arguments, exc_info=None):
    return logging.LogRecord("lifecycle", logging.WARNING, "file.py", 1, message, arguments, exc_info)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\v", "\f", "\x85", "\u2028", "\x1b[2K\x1b[G", "\0"])
def test_a_record_is_one_line_of_characters_that_print(formatter, end):
    line = formatter.format(record("The agent wrote %s", f"words{end}{FORGED}"))
    assert line.isprintable()
    assert line.endswith(FORGED)


def test_no_line_of_a_traceback_looks_like_a_record(formatter):
    try:
        raise ValueError(f"words\n{FORGED}\x1b[2K\x1b[G\r\u2028{FORGED}")
    except ValueError:
        text = formatter.format(record("It failed", exc_info=sys.exc_info()))
    assert "ValueError" in text
    lines = text.split("\n")
    assert all(line.startswith("  ") for line in lines[1:])
    assert all(line.isprintable() for line in lines)


def test_other_scripts_stay_readable(formatter):
    assert formatter.format(record("%s", "Schlüssel 钥匙")).endswith("Schlüssel 钥匙")
