"""The command `manage.py resume_subscription`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from telling.management.finding import find
from telling.subscriptions.models import Subscription


class Command(BaseCommand):
    """Resumes a subscription."""

    help = "Tries a paused or failing subscription again at once. It goes on where it was, and nothing is left out."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name."""
        parser.add_argument("name")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        """Resume it."""
        row = find(name)
        Subscription.objects.filter(pk=row.pk).resume()
        self.stdout.write(f"{name} is told of events after {row.cursor}.")
