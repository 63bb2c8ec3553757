"""Put an instance to sleep, and wait until it is asleep. The next dispatch wakes it: `disable` keeps it asleep."""

from argparse import ArgumentParser
from typing import Any

from lifecycle.management.ordering import OrderingCommand
from lifecycle.orders import Order, Trigger
from lifecycle.transitions.control import Control


class Command(OrderingCommand):
    """The command `manage.py sleep`."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name, and whether work may be broken off."""
        super().add_arguments(parser)
        parser.add_argument("--force", action="store_true", help="break off work in flight, which is not repeated")

    def carry_out(self, control: Control, name: str, caller: dict[str, str], *, force: bool, **options: Any) -> str:
        """Put it to sleep."""
        control.sleep(name, Order(Trigger.SLEEP, **caller), force=force)
        return f"{name} is asleep."
