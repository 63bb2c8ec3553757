"""The command `manage.py subscribe`: a URL is told of events from now on."""

import re
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from events.models import EventLog
from telling.subscriptions.models import Subscription
from telling.subscriptions.targets import Target, parse


class Command(BaseCommand):
    """Creates a subscription."""

    help = (
        "Tells a URL of events: https://... gets signed CloudEvents; an Apprise URL, such as mailtos:// or slack://, "
        "gets a sentence and a link. The secret of the signatures is printed once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the URL and what it is told."""
        parser.add_argument("url", help="where to; - reads it from standard input, so that no other user sees it")
        parser.add_argument("--name", help="by which commands and pages name it (default: made from the URL's host)")
        parser.add_argument("--types", nargs="+", default=[], metavar="TYPE", help="only these; container.* is many")
        parser.add_argument("--instances", nargs="+", default=[], metavar="NAME", help="only events of these instances")
        parser.add_argument("--failures", action="store_true", help="only failures")
        parser.add_argument("--output", action="store_true", help="also the last lines of output of a failed agent")
        parser.add_argument(
            "--after",
            type=int,
            metavar="N",
            help="begin after the event with this id (default: now; 0: all kept)",
        )

    def handle(self, *args: Any, url: str, name: str | None, after: int | None, **options: Any) -> None:
        """Create the subscription, and print its name and secret."""
        if not settings.DORMOUSE_PUBLIC_URL:
            raise CommandError(
                "Set DORMOUSE_PUBLIC_URL first, such as https://dormouse.example.org: receivers are told it."
            )
        target = _parse(sys.stdin.readline() if url == "-" else url)
        wanted = {key: options[key] for key in ("types", "instances", "failures", "output")}
        cursor = check_cursor(after)
        try:
            row, secret = Subscription.objects.subscribe(
                target, name=name or _make_name(target), cursor=cursor, **wanted
            )
        except ValidationError as error:
            raise CommandError(f"Nothing was subscribed. {' '.join(error.messages)}") from None
        self.stdout.write(f"{row.name}: {row.shown} is told of events after {cursor}.")
        if secret:
            self.stdout.write(f"The secret of its signatures, which is not shown again: {secret}")


def check_cursor(after: int | None) -> int:
    """Return the cursor to begin at: `after`, or the end of the log. Raises CommandError."""
    latest = EventLog.objects.bounds()[1]
    if after is None:
        return latest
    if not 0 <= after <= latest:
        raise CommandError(f"--after is the id of an event, from 0 to {latest}, which is the latest.")
    return after


def _parse(url: str) -> Target:
    try:
        return parse(url.strip())
    except ValueError as error:
        raise CommandError(f"Nothing was subscribed: {error}.") from None


def _make_name(target: Target) -> str:
    """Return a name that is not taken, made from what is shown of the URL."""
    scheme, _, rest = target.shown.partition("://")
    place = re.split("[/?]", rest)[0].rpartition("@")[2] if target.is_program else scheme
    base = re.sub("[^A-Za-z0-9.-]+", "-", place).strip("-.")[:90] or "subscription"
    taken = set(Subscription.objects.filter(name__startswith=base).values_list("name", flat=True))
    return next(name for name in (base, *(f"{base}-{n}" for n in range(2, len(taken) + 3))) if name not in taken)
