"""Who ordered a start, a stop or work, and what for. A claim and a lease keep that, and events tell it."""

from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from lifecycle.exceptions import storable

#: The longest text of the header `Dormouse-For` that is kept, in characters.
MAX_FOR_CHARACTERS = 200


class Trigger(StrEnum):
    """Why an instance was started or stopped."""

    DISPATCH = auto()
    WAKE = auto()
    #: Another instance needs it.
    NEEDED = auto()
    IDLE = auto()
    SLEEP = auto()
    DISABLED = auto()


@dataclass(frozen=True)
class Order:
    """An order to start or stop an instance, or to work. What is empty is not known."""

    trigger: Trigger
    #: The name of a user or of a token.
    by: str = ""
    #: `user`, `token` or `command`.
    by_kind: str = ""
    #: Who or what the work is for, in the caller's words.
    work_for: str = ""

    def data(self) -> dict[str, Any]:
        """Return what the claim keeps, and what its event tells."""
        return {"trigger": str(self.trigger)} | self.caller()

    def caller(self) -> dict[str, Any]:
        """Return what is known of the caller: all but the trigger."""
        known = {"by": self.by, "by_kind": self.by_kind, "for": self.work_for}
        return {name: value for name, value in known.items() if value}


#: An order by an unknown caller.
DISPATCH = Order(Trigger.DISPATCH)


def read_for(header: bytes) -> str:
    """Return the text of a header `Dormouse-For`: UTF-8, at most MAX_FOR_CHARACTERS."""
    return storable(header.decode("utf-8", "replace")).strip()[:MAX_FOR_CHARACTERS]
