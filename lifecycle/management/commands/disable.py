"""Disable an instance: it takes no new work, and a supervisor puts it to sleep when its work has ended."""

from argparse import ArgumentParser
from typing import Any

from lifecycle.management.ordering import OrderingCommand
from lifecycle.transitions.control import Control


class Command(OrderingCommand):
    """The command `manage.py disable`."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name, the reason, and whether work may be broken off."""
        super().add_arguments(parser)
        parser.add_argument("--reason", default="", help="why; callers and the page are told")
        parser.add_argument("--force", action="store_true", help="break off work in flight, which is not repeated")

    def carry_out(
        self, control: Control, name: str, caller: dict[str, str], *, reason: str, force: bool, **options: Any
    ) -> str:
        """Disable it."""
        control.disable(name, reason, caller, force=force)
        return f"{name} is disabled. `manage.py enable` lets it take work again."
