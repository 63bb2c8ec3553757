"""Enable an instance that was disabled: work can be dispatched to it again."""

from typing import Any

from lifecycle.management.ordering import OrderingCommand
from lifecycle.transitions.control import Control


class Command(OrderingCommand):
    """The command `manage.py enable`."""

    help = __doc__

    def carry_out(self, control: Control, name: str, caller: dict[str, str], **options: Any) -> str:
        """Enable it."""
        control.enable(name, caller)
        return f"{name} is enabled."
