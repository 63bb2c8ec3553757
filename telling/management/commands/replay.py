"""The command `manage.py replay`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from telling.management.commands.subscribe import check_cursor
from telling.management.finding import find
from telling.subscriptions.models import Subscription


class Command(BaseCommand):
    """Moves the cursor of a subscription."""

    help = (
        "Delivers again what came after an event, or, with a later event, leaves out what came before. "
        "A subscription that is paused is resumed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name and the cursor."""
        parser.add_argument("name")
        parser.add_argument("--after", type=int, required=True, metavar="N", help="the id of an event; 0: all kept")

    def handle(self, *args: Any, name: str, after: int, **options: Any) -> None:
        """Move the cursor."""
        row, cursor = find(name), check_cursor(after)
        Subscription.objects.filter(pk=row.pk).resume(cursor)
        self.stdout.write(f"{name} is told of events after {cursor}.")
