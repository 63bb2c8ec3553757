"""Remove the oldest events from the log, up to an age.

Readers, the page and the audit keep working meanwhile. A reader whose cursor is older gets a stream-reset, and
continues at the oldest event that is kept.
"""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from access.ages import parse_age
from events.models import EventLog


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
