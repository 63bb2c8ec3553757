"""The mark in every published event: its number, and when it was published. One regular expression finds both."""

import re
import time

#: `@` occurs nowhere else in what is published, so a mark that is cut in two is recognized.
BEGIN, END = b"@", b";"
MARK = re.compile(rb"@(\d+):(\d+);")


def data(number: int, filler_bytes: int = 0) -> dict[str, str]:
    """Return an event's data. The time is CLOCK_MONOTONIC, which all processes of a Linux machine share."""
    return {"mark": f"@{number}:{time.monotonic_ns()};"} | ({"filler": "x" * filler_bytes} if filler_bytes else {})
