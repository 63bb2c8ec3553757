"""Ages and lifetimes as commands take them: `90d`, `12h`, `30m`, `45s`."""

import re
from argparse import ArgumentTypeError
from datetime import timedelta

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_age(text: str) -> timedelta:
    """Return the age that `text` writes as a number and one unit. Raises ArgumentTypeError."""
    found = re.fullmatch(r"([0-9]{1,5})([smhd])", text)
    if not found:
        raise ArgumentTypeError(f"{text!r} is no age: write it as 90d, 12h, 30m or 45s")
    return timedelta(**{UNITS[found[2]]: int(found[1])})
