"""The command `manage.py unsubscribe`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from telling.management.finding import find


class Command(BaseCommand):
    """Ends a subscription."""

    help = "Ends a subscription. A delivery that is under way still arrives."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name."""
        parser.add_argument("name")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        """Remove the subscription."""
        row = find(name)
        cursor = row.cursor
        row.delete()
        self.stdout.write(f"{name} is unsubscribed. Its last event was {cursor}.")
