"""The command `manage.py list_tokens`: every token that was ever created."""

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from access.models import Token

TITLES = ("NAME", "ROLE", "INSTANCES", "STATUS", "EXPIRES", "LAST USED")


class Command(BaseCommand):
    """Lists the tokens."""

    help = "Lists the tokens, without their texts, which are kept nowhere. Times are in UTC."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a table."""
        lines = [TITLES, *(_describe(token, timezone.now()) for token in Token.objects.all())]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            self.stdout.write("  ".join(map(str.ljust, line, widths)).rstrip())


def _describe(token: Token, now: datetime) -> tuple[str, ...]:
    instances = ",".join(token.instances) or "all"
    return token.name, token.role, instances, token.status(now), _minute(token.expires), _minute(token.last_used)


def _minute(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "never"
