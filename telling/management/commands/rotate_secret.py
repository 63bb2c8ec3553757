"""The command `manage.py rotate_secret`."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from access.ages import parse_age
from telling.management.finding import find


class Command(BaseCommand):
    """Gives a subscription a new secret."""

    help = (
        "Gives a subscription a new secret, and prints it once. For a while deliveries are signed with both, so that "
        "the receiver can change over."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name and the time of the change."""
        parser.add_argument("name")
        parser.add_argument(
            "--overlap",
            type=parse_age,
            default=timedelta(hours=24),
            metavar="24h",
            help="for how long deliveries are also signed with the old secret (default: 24h; 0s: if others know it)",
        )

    def handle(self, *args: Any, name: str, overlap: timedelta, **options: Any) -> None:
        """Rotate, and print the new secret."""
        row = find(name)
        if not row.is_program:
            raise CommandError(f"{name} tells a person, and has no secret.")
        secret = row.rotate_secret(timezone.now() + overlap)
        self.stdout.write(f"The new secret, which is not shown again: {secret}")
