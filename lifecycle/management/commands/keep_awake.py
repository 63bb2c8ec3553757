"""Keep an instance awake although it is idle, for at most 24 h, or let it sleep again. It must be ready."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from lifecycle.clock import as_text
from lifecycle.management.ordering import OrderingCommand
from lifecycle.transitions.control import Control, read_until


class Command(OrderingCommand):
    """The command `manage.py keep_awake`."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name, and for how long or until when."""
        super().add_arguments(parser)
        times = parser.add_mutually_exclusive_group(required=True)
        times.add_argument("--for", dest="duration", metavar="1h30m", help="for how long; at most 24h")
        times.add_argument("--until", metavar="TIME", help="until when, for example 2026-11-26T05:40:00Z")
        times.add_argument("--end", action="store_true", help="let it sleep when it is idle")

    def carry_out(
        self,
        control: Control,
        name: str,
        caller: dict[str, str],
        *,
        duration: str | None,
        until: str | None,
        end: bool,
        **options: Any,
    ) -> str:
        """Keep it awake, or end that."""
        if end:
            control.end_keep_awake(name, caller, may_control=True)
            return f"{name} is put to sleep when it is idle."
        try:
            wanted = read_until(control.clock.now(), duration=duration, until=until)
        except ValueError as error:
            raise CommandError(str(error)) from None
        kept = control.keep_awake(name, wanted, caller)
        return f"{name} is kept awake until {as_text(kept)}."
