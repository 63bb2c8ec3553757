"""Say that an older copy of the database was put in the log's place, if Dormouse cannot know that.

Dormouse notices it by the highest id that it has seen, which it keeps in `var/marks/`. If that was lost too, give the
highest id that any reader may have seen. The next event gets a higher one, and a reader whose cursor is one of the ids
that are gone gets a stream-reset.
"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from events.integrity import high_water
from events.log import skip_past_mark
from events.models import EventLog

MAX_ID = 10**17


class Command(BaseCommand):
    """The command `manage.py restored`."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the highest id that was given out."""
        parser.add_argument("--above", type=int, required=True, metavar="N", help="the highest id that was given out")

    def handle(self, *args: Any, above: int, **options: Any) -> None:
        """Move the log above the id, unless it is there already."""
        if not 0 < above < MAX_ID:
            raise CommandError("--above takes the id of an event")
        high_water.note(above)
        if not high_water.is_behind():
            self.stdout.write(f"Nothing to do: the log has given out the id {above} already.")
            return
        skip_past_mark()
        self.stdout.write(f"The next event gets an id above {EventLog.objects.bounds()[1]}.")
