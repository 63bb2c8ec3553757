from django.apps import AppConfig

from lifecycle.supervision import jobs


class TellingConfig(AppConfig):
    """Tells other programs and people what happens: metrics, traces and subscriptions."""

    name = "telling"

    def ready(self) -> None:
        """Count from the first signal on, and let the supervisor deliver to subscriptions."""
        from telling.metrics import process  # noqa: F401
        from telling.subscriptions.deliveries import DELIVERING

        jobs.register(DELIVERING)
