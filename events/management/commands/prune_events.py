"""Remove the oldest events from the log, up to an age.

Readers, the page and the audit keep working meanwhile. A reader whose cursor is older gets a stream-reset, and
continues at the oldest event that is kept.
"""

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from events.models import EventLog

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Command(BaseCommand):
    """The command `manage.py prune_events`."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the age, and the option that only counts."""
        parser.add_argument(
            "--older-than", type=parse_age, required=True, metavar="90d", help="an age: a number and one of s, m, h, d"
        )
        parser.add_argument("--dry-run", action="store_true", help="say how many events would go, and remove none")

    def handle(self, *args: Any, older_than: timedelta, dry_run: bool, **options: Any) -> None:
        """Prune, or count what would be pruned."""
        floor = EventLog.objects.floor_before(timezone.now() - older_than)
        if dry_run:
            self.stdout.write(f"Events that would be removed: {EventLog.objects.filter(id__lte=floor).count()}.")
        else:
            self.stdout.write(f"Events removed: {EventLog.objects.prune(floor)}.")


def parse_age(text: str) -> timedelta:
    """Return the age that `text` writes as a number and one unit. Raises ArgumentTypeError."""
    found = re.fullmatch(r"([0-9]{1,5})([smhd])", text)
    if not found:
        raise ArgumentTypeError(f"{text!r} is no age: write it as 90d, 12h, 30m or 45s")
    return timedelta(**{UNITS[found[2]]: int(found[1])})
