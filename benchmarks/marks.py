"""What every published event carries: its number, and when it was published, where a reader finds both at once."""

import re
import time

#: `@` occurs in nothing else that is published, so that a mark cut in two is seen.
BEGIN, END = b"@", b";"
MARK = re.compile(rb"@(\d+):(\d+);")


def data(number: int, filler_bytes: int = 0) -> dict[str, str]:
    """An event's data. The time is CLOCK_MONOTONIC's, which all processes of a Linux machine share."""
    return {"mark": f"@{number}:{time.monotonic_ns()};"} | ({"filler": "x" * filler_bytes} if filler_bytes else {})
