from django.apps import AppConfig


class TellingConfig(AppConfig):
    """Tells other programs and people what happens: metrics, traces and subscriptions."""

    name = "telling"

    def ready(self) -> None:
        """Count from the first signal on."""
        from telling.metrics import process  # noqa: F401
