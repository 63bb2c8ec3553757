"""Why a delivery failed."""


class DeliveryFailed(Exception):
    """A receiver did not take a message. The text says why, and holds no credentials."""

    def __init__(self, reason: str, *, retry_after: int = 0, is_final: bool = False) -> None:
        super().__init__(reason)
        #: The seconds that the receiver asks to wait.
        self.retry_after = retry_after
        #: The receiver wants no more deliveries.
        self.is_final = is_final
