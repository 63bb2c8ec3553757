"""The command `manage.py list_subscriptions`."""

from typing import Any

from django.core.management.base import BaseCommand

from events.invisible import escape_invisible
from telling.subscriptions.models import Subscription

TITLES = ("NAME", "URL", "EVENTS", "STATE", "CURSOR", "DELIVERED", "TROUBLE")


class Command(BaseCommand):
    """Lists the subscriptions."""

    help = "Lists the subscriptions. URLs are shown without their credentials. Times are in UTC."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a table."""
        lines = [TITLES, *(_describe(row) for row in Subscription.objects.all())]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            self.stdout.write("  ".join(map(str.ljust, line, widths)).rstrip())


def _describe(row: Subscription) -> tuple[str, ...]:
    delivered = f"{row.delivered:%Y-%m-%d %H:%M}" if row.delivered else "never"
    trouble = escape_invisible(row.error).replace("\n", " ")
    return row.name, row.shown, row.describe_events(), row.state(), str(row.cursor), delivered, trouble
