"""Remove the oldest events from the log, up to an age.

Readers, the page and the audit keep working meanwhile. A reader whose cursor is older gets a stream-reset, and
continues at the oldest event that is kept.
"""

from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection
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
        parser.add_argument(
            "--shrink",
            action="store_true",
            help="also give free space back to the disk (SQLite). Nothing else can be written meanwhile",
        )

    def handle(self, *args: Any, older_than: timedelta, dry_run: bool, shrink: bool, **options: Any) -> None:
        """Prune, or count what would be pruned."""
        now = timezone.now()
        floor = EventLog.objects.floor_before(now - older_than, now)
        if dry_run:
            self.stdout.write(f"Events that would be removed: {EventLog.objects.filter(id__lte=floor).count()}.")
        else:
            self.stdout.write(f"Events removed: {EventLog.objects.prune(floor)}.")
        self._tell_of_the_future(now)
        if connection.vendor == "sqlite" and not dry_run:
            self._give_space_back(shrink)

    def _tell_of_the_future(self, now: datetime) -> None:
        future = EventLog.objects.filter(at__gt=now).order_by("id")
        if first := future.first():
            self.stdout.write(
                f"Events that are stamped in the future: {future.count()}, the first with the id {first.id}. "
                "Such an event is removed with the events around it."
            )

    def _give_space_back(self, shrink: bool) -> None:
        with connection.cursor() as cursor:
            if shrink:
                cursor.execute("VACUUM")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            free_pages, page_bytes = (
                cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size")
            )
        if free_megabytes := free_pages * page_bytes // 1_000_000:
            self.stdout.write(f"{free_megabytes} MB of the file are free for new events. --shrink gives them back.")
