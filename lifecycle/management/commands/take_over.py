"""Let this installation manage the agents of its engine and scope, in place of another one.

An engine and scope belong to the installation that was there first. Stop that one before, or let its work end: this one
sees no work of the other one, and puts its agents to sleep when they look idle.
"""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from lifecycle.clock import Clock
from lifecycle.engines import engine_from_settings
from lifecycle.exceptions import LifecycleError
from lifecycle.workers.neighbours import Neighbours


class Command(BaseCommand):
    """The command `manage.py take_over`."""

    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        """Replace the mark at the engine, and say what it said."""
        if settings.DORMOUSE_ENGINE == "process":
            self.stdout.write("The process engine needs no mark: no other installation can use its run directory.")
            return
        try:
            before = Neighbours(engine_from_settings(), Clock()).take_over()
        except LifecycleError as error:
            raise CommandError(str(error)) from error
        scope = f"the scope {settings.DORMOUSE_SCOPE!r}" if settings.DORMOUSE_SCOPE else "the empty scope"
        said = f"Taken over from: {before}." if before else "Nothing was taken over."
        self.stdout.write(f"{said} The agents of this engine and of {scope} are managed by this installation.")
