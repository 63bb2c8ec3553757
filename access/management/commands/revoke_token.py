"""The command `manage.py revoke_token`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from access.models import ENVIRONMENT, Token


class Command(BaseCommand):
    """Revokes a token."""

    help = "Revokes a token for ever. Requests are refused within a second, and its streams end within a minute."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name."""
        parser.add_argument("name")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        """Revoke the token, or say that there is none."""
        if name == ENVIRONMENT:
            raise CommandError("This token is DORMOUSE_API_TOKEN. Unset that, and restart Dormouse.")
        tokens = Token.objects.filter(name=name)
        if not tokens:
            raise CommandError(f"No token is called {name!r}. See manage.py list_tokens.")
        was_valid = tokens.revoke(timezone.now())
        self.stdout.write(f"{name} is revoked." if was_valid else f"{name} was revoked before.")
