"""Wake an instance, and wait until it is ready."""

from typing import Any

from lifecycle.management.ordering import OrderingCommand
from lifecycle.orders import Order, Trigger
from lifecycle.transitions.control import Control


class Command(OrderingCommand):
    """The command `manage.py wake`."""

    help = __doc__

    def carry_out(self, control: Control, name: str, caller: dict[str, str], **options: Any) -> str:
        """Wake it."""
        latency_ms = control.wake(name, Order(Trigger.WAKE, **caller))
        return f"{name} was ready." if latency_ms is None else f"{name} is ready, after {latency_ms} ms."
