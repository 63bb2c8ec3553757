"""The command `manage.py create_token`: a token for a program. It is printed once, and kept nowhere."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from access.ages import parse_age
from access.models import Role, Token


class Command(BaseCommand):
    """Creates a token."""

    help = (
        "Creates a token for a program, and prints it once: Dormouse keeps only its SHA-256. The program sends it as "
        "the header Authorization: Bearer TOKEN, or as Dormouse-Token: TOKEN."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name, the role and the limits."""
        parser.add_argument("name", help="who uses it; events show it, and no later token can have it")
        parser.add_argument("--role", required=True, choices=Role.values, help="what it may do")
        parser.add_argument("--expires", type=parse_age, metavar="90d", help="its lifetime (default: it has no end)")
        parser.add_argument("--instances", default="", metavar="a,b", help="the only instances that it is for")

    def handle(
        self, *args: Any, name: str, role: str, expires: timedelta | None, instances: str, **options: Any
    ) -> None:
        """Create the token and print it."""
        names = sorted(filter(None, map(str.strip, instances.split(","))))
        if instances and not names:
            raise CommandError("--instances names no instance. Leave it out for a token for all instances.")
        end = timezone.now() + expires if expires is not None else None
        try:
            _, text = Token.objects.issue(name, role, instances=names, expires=end)
        except ValidationError as error:
            raise CommandError(f"No token was created. {' '.join(error.messages)}") from None
        self.stdout.write(text)
