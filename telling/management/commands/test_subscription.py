"""The command `manage.py test_subscription`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from telling.management.finding import find
from telling.subscriptions.failures import DeliveryFailed
from telling.subscriptions.sealing import Unsealable
from telling.subscriptions.turns import deliver_test


class Command(BaseCommand):
    """Sends a test."""

    help = "Sends a test message (dormouse.test) to a subscription, once, and says what came of it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name."""
        parser.add_argument("name")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        """Deliver the test."""
        row = find(name)
        try:
            deliver_test(row)
        except (DeliveryFailed, Unsealable) as error:
            raise CommandError(f"The test was not delivered to {name}: {error}") from None
        self.stdout.write(f"The test was delivered to {name}.")
